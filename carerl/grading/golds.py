r"""Reads the value from a gold answer of a file, which may be a whole solution or carry a mark.

=========================================== =====================================================================
written                                     read as
=========================================== =====================================================================
``1+1=<<1+1=2>>2\n#### 2``, ``#### 2``      what follows the last ``####``
``The answer is $\boxed{7}$.``              what the last box holds
``<answer>7</answer>``                      what the last tag holds
``"2"``, ``**2**``                          without its quotation marks or stars
=========================================== =====================================================================

A gold answer that no response could match is refused: one of more than 500 characters, one without content, a solution
without a mark.
"""

from __future__ import annotations

import re

from carerl.grading.math.normal_form import MAX_ANSWER, normalise
from carerl.grading.math.ornaments import without_marks, without_quotes

from .base import MATHEMATICAL
from .extraction import BOX, boxes, find

_MAX_WORDS = 12  # of an answer in words; a solution has more
_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}")
_MACRO = re.compile(r"\\[a-zA-Z]+|\\(?:begin|end)\{\w+\*?\}")


def gold_answer(text: str, grader: str = "math") -> str:
    """Returns the value that a gold answer states. Raises ValueError with the reason and the remedy if it states none.

    Answers of other graders than ``math`` and ``gsm8k`` are words or labels, and are returned as they are.

    >>> gold_answer("1 + 1 = <<1+1=2>>2\\n#### 2")
    '2'
    """
    if grader not in MATHEMATICAL:
        return text
    value = _marked(text.strip())
    if len(value) > MAX_ANSWER:
        raise ValueError(
            f"has {len(value)} characters, but an answer has at most {MAX_ANSWER}: no response could be right; "
            "give the value alone"
        )
    if not normalise(value):
        raise ValueError("holds no value: no response could be right; give the value alone")
    if len(_WORD.findall(_MACRO.sub(" ", value))) > _MAX_WORDS:
        raise ValueError(
            "is a text without a mark of its answer: no response could be right; give the value alone, or write it "
            "after #### or in \\boxed{}"
        )
    return value


def _marked(text: str) -> str:
    """Returns what stands behind or in the last mark; the text itself if there is no mark."""
    if "####" in text:
        text = without_marks(text.rpartition("####")[2].strip()).strip()
        text = text.splitlines()[0].strip() if text else ""
    if BOX.search(text):
        held = boxes(text)
        if not held or held[-1] is None:
            raise ValueError(
                f"has a box that is empty, not closed, or of more than {MAX_ANSWER} characters; give the value alone"
            )
        return held[-1]
    if "</answer>" in text and (tagged := find(text, ("tag",), False)) is not None:
        text = tagged.text
    return without_quotes(text)
