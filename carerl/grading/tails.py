r"""Reads what follows a value in a sentence. It may add nothing ("$5$ and we are done", "5 (five)", "$\frac12$, or
$0.5$"), be a unit ("5 apples"), or make another answer ("5 or 7", "5, no, 6", "5 times seven")."""

from __future__ import annotations

import re

from carerl.grading.math.normal_form import MAX_ANSWER, normalise, rational
from carerl.grading.math.ornaments import ENVIRONMENT
from carerl.grading.math.units import unit_of
from carerl.grading.math.words import changes_a_value, number_in_words

ASIDE = re.compile(
    r"(?:[,;(]\s*|(?<=[\d})$])\s+)(?:which|where|when|as|if you|given|after|so|therefore|thus|hence|because|since)\b"
    r"|\s+(?:because|since)\b",
    re.IGNORECASE,
)
# A formula at the start of what follows a phrase, with its marks, in this order.
FORMULA = re.compile(
    r"\s*(?:\$\$(?P<a>[^$]{1,500})\$\$|\\\[(?P<b>(?:(?!\\\]).){1,500})\\\]|\\\((?P<c>(?:(?!\\\)).){1,500})\\\)"
    r"|\$(?P<d>[^$\n]{1,500})(?<!\\)\$|```\w{0,10}\n(?P<e>[^`]{1,500})```"
    rf"|(?P<f>{ENVIRONMENT}))",
    re.DOTALL,
)
RETRACTED = re.compile(
    r"[.?!]?[*_\s]{0,4}(?:no\b|wait\b|hmm|actually\b|wrong\b|incorrect\b|scratch that|correction\b|oops|not\b)",
    re.IGNORECASE,
)
_VALUE = re.compile(
    r"[*_]{0,3}(?P<value>[-+−]?\s?[$€£]?\s?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:/\d+)?\s?%?|\([^()]{1,80}\)|\[[^\[\]]{1,80}[\])])"
    r"[*_]{0,3}(?=[\s,;(—–]|$)"
)
_RESTATED = re.compile(
    r"^[\s,;(—–-]*(?:i\.?\s?e\.?,?|that is,?|or|namely,?|=|equivalently,?|in other words,?|which (?:is"
    r"|equals))?\s*(?:simply )?(.{1,80}?)[\s).,;]*$"
)
_DENIED_OTHER = re.compile(r"^[\s,;(]*(?:and )?(?:not|rather than|instead of)\s+(.{1,60}?)\)?$", re.IGNORECASE)
_IN_BRACKETS = re.compile(r"^\s*\(([^()]{1,60})\)\s*(\S.*)$", re.DOTALL)
_DASH = re.compile(r"^\s*(?:[—–]|-\s|[,;(])")
_MILD = re.compile(
    r"\b(?:and|is|are|was|as|this|that|thus|equals?|means|base|only|out|yes|its|by|than)\b", re.IGNORECASE
)


def first_value(sentence: str) -> tuple[str, str] | None:
    """Returns the value that a sentence starts with, and the rest; None if it does not start with a plain one.

    >>> first_value("5 (five)")
    ('5', '(five)')
    """
    if formula := FORMULA.match(sentence):
        content = next(part for part in formula.groups() if part is not None).strip(" .,;\n")
        return (content, sentence[formula.end() :]) if content else None
    match = _VALUE.match(sentence)
    if match is None or not re.search(r"\d", match["value"]):
        return None
    return match["value"].strip(), sentence[match.end() :]


def without_tail(value: str, tail: str) -> str | None:
    """Returns the value, with its unit if one follows, if the tail adds nothing else; None if it may."""
    tail = tail.strip("*_ \t\r\n.!:")
    if not tail:
        return value
    if len(tail) > MAX_ANSWER:
        return None
    if unit_of(tail.lower()) is not None:
        return rf"{value} \text{{ {tail}}}"
    if aside := ASIDE.search(f"$ {tail}" if tail[0] not in ",;(" else tail):
        before = tail[: max(0, aside.start() - (2 if tail[0] not in ",;(" else 0))]
        return without_tail(value, before) if before.strip() else value
    number = _number(value)
    if number is not None:
        if (restated := _RESTATED.match(tail)) and number == _number(restated[1]):
            return value
        if (bracketed := _IN_BRACKETS.match(tail)) and number == _number(bracketed[1]):
            return without_tail(value, bracketed[2])
        if (denied := _DENIED_OTHER.match(tail)) and _number(denied[1]) not in (None, number):
            return value
    if re.search(r"[\d$\\]", tail) or changes_a_value(_MILD.sub(" ", tail)):
        return None
    first = re.match(r"[a-z]+", tail, re.IGNORECASE)
    if _DASH.match(tail) or (first and first[0].lower() in ("and", "as", "is", "by", "for", "from", "in", "this", "i")):
        return value
    return None


def _number(text: str) -> object:
    text = text.strip()
    text = FORMULA.sub(lambda m: next(p for p in m.groups() if p is not None), text, count=1)
    value = rational(normalise(text))
    return number_in_words(text) if value is None else value
