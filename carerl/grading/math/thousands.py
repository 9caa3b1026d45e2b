r"""Finds thousands separators within an answer: ``1,500\pi``, ``[1,000, 2,000]``, ``1,000 or 2,000``.

A comma before exactly three digits and without a space behind it may be one. In a run of digits and commas either all
numbers have them or none. ``(1,234)`` is a point: as one number it would be alone in its brackets.
"""

from __future__ import annotations

import re

_RUN = re.compile(r"(?<![\w.,}])\d[\d,]*,\d{3}(?![\d,]*\d)", re.ASCII)
_GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:,\d{1,2}(?:,\d{3})+)*", re.ASCII)
_SEPARATOR = re.compile(r",(?=\d{3}(?!\d))", re.ASCII)
_CLOSES = re.compile(r"\s*(?:\\[,;:! ])*\s*(?:\\right)?\s*(?:[)\]]|\\\})")
_OPENS = re.compile(r"(?:[(\[]|\\\{)\s*(?:\\[,;:! ])*\s*[-+]?$")


def ungrouped(text: str) -> str:
    r"""Removes the commas that may separate thousands.

    >>> [ungrouped(t) for t in (r"1,500\pi", "[1,000, 2,000]", "1,000,2,000", "2,3,125", "(1,234)", "1, 234")]
    ['1500\\pi', '[1000, 2000]', '1000,2000', '2,3,125', '(1,234)', '1, 234']
    """
    if "," not in text:
        return text

    def plain(match: re.Match[str]) -> str:
        alone = _OPENS.search(text, 0, match.start()) and _CLOSES.match(text, match.end())
        return match[0] if alone or not _GROUPED.fullmatch(match[0]) else _SEPARATOR.sub("", match[0])

    return _RUN.sub(plain, text)
