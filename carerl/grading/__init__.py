r"""Graders: what a response's final answer is, and whether it is right.

================= ======================================================================================
module            holds
================= ======================================================================================
``base``          :class:`Gold`, :class:`Verdict`, the table's entry
``extraction``    finding the final answer, by an ordered policy
``tails``         what follows a value in a sentence
``golds``         what a gold answer of a file says, also at the end of a solution
``normal_form``   spellings without mathematical meaning taken away (``characters``: other alphabets; ``notation``:
                  macros, fonts, leading words; ``ornaments``: what stands around it; ``unit_notation``)
``structure``     a normal form read into kinds (``units``; ``words``: numbers, and what changes them)
``equivalence``   whether two answers mean the same (``labels``: what only names a value; ``real_sets``;
                  ``expressions``: values; ``latex``: what their parser is given; ``doubles``; ``thousands``)
``choice``        which option an answer names (``options``: where a text mentions one)
``statements``    which option a response without a marked answer states (``statement_forms``: their patterns)
``countdown``     arithmetic with given numbers
``abstention``    "nobody knows" against a side matter, and aliases (``not_knowing``: the phrases)
``graders``       the graders made of them
================= ======================================================================================

All of it is pure. What may take long or much memory runs in :mod:`carerl.grading.pool`.
"""

from __future__ import annotations

from carerl.grading.math.equivalence import equivalent
from carerl.grading.math.normal_form import canonical, normalise, rational

from .base import Gold, GraderEntry, LimitError, Verdict
from .extraction import clip, extract_boxed
from .golds import gold_answer
from .graders import grade_choice, grade_countdown, grade_gsm8k, grade_math, grade_selfaware

GRADERS: dict[str, GraderEntry] = {
    "math": GraderEntry(grade_math, ("accepted",), "mathematical equivalence of a boxed or announced answer"),
    "gsm8k": GraderEntry(grade_gsm8k, ("accepted",), "a number after ####, boxed, announced, or the last one"),
    "choice": GraderEntry(grade_choice, ("accepted", "choices"), "the label of exactly one option"),
    "countdown": GraderEntry(
        grade_countdown, ("numbers", "target"), "an expression of given numbers with a given value"
    ),
    "selfaware": GraderEntry(grade_selfaware, (), "an alias of the answer, or an abstention"),
}

__all__ = [
    "GRADERS",
    "Gold",
    "GraderEntry",
    "LimitError",
    "Verdict",
    "canonical",
    "clip",
    "equivalent",
    "extract_boxed",
    "gold_answer",
    "normalise",
    "rational",
]
