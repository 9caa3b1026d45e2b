r"""Graders: find a response's final answer, and decide whether it is right.

================= ======================================================================================
module            holds
================= ======================================================================================
``base``          :class:`Gold`, :class:`Verdict`, the table's entry
``extraction``    finding the final answer, by an ordered policy
``tails``         what follows a value in a sentence
``golds``         what a gold answer of a file says, also at the end of a solution
``graders``       the graders, made of all these
``countdown``     arithmetic with given numbers
``abstention``    "nobody knows" against a side matter, and aliases (``not_knowing``: the phrases)
``votes``         what a graded answer votes for
``decision``      the token with which a response names its option
``places``        where in a response a marked answer stands
``pool``          grading in processes that can be ended (``pool_worker``: what runs in them)
================= ======================================================================================

In ``math``, ``normal_form`` removes spellings without mathematical meaning (``characters``: other alphabets;
``notation``: macros, fonts, leading words; ``ornaments``: what stands around an answer; ``unit_notation``).
``structure`` reads a normal form into kinds (``units``; ``words``: numbers, and words that change them).
``equivalence`` decides whether two answers mean the same (``named_values``: what only names a value; ``real_sets``;
``expressions``: values; ``latex``: the text for their parser; ``doubles``; ``thousands``).

In ``choice``, ``options`` finds where a text mentions an option, ``beside_box`` which option an answer names, and
``statements`` which option a response without a marked answer states (``statement_forms``: the patterns).

Everything but the pool is pure. What may take long or much memory runs in :mod:`carerl.grading.pool`.
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
