r"""Whether two final answers mean the same: structure first, then the value of each part.

An answer is read into one of these kinds, and kinds are not mixed unless the table says so:

=========== ============================== ==============================================================
kind        written                        equal when
=========== ============================== ==============================================================
number      ``7/4  1,234  3\frac12``       same rational
expression  ``2\pi - 4``                   same value (:mod:`~carerl.tasks.grading.expressions`)
quantity    ``10\text{ cm}  50\%  \$5``    same unit, or one of them without a unit, and same value
based       ``52_8``                       same digits and same base; never a number without a base
list        ``-2, 2   1 \text{ or } 3``    same members in any order, as often as they occur
set         ``\{1, 2\}``                   same members in any order; a list may stand for a set
group       ``(1,2)  [0,1)``               same brackets, same parts in order; ``1,2`` may stand for ``(1,2)``
union       ``[0,1) \cup (2,3)``           same set of real numbers
matrix      ``\begin{pmatrix}...``         same shape, same entries; the kind of brackets does not matter
relation    ``y = 2x+3   x < 5``           same relation up to a factor; ``x = 5`` may stand for ``5``
text        ``\text{Monday}  8:34 p.m.``   same words but for case, articles and punctuation
=========== ============================== ==============================================================

[ours] Decisions where usage is divided:

- Percent: ``50\%``, ``50`` and ``0.5`` are accepted for the gold answer ``50\%``; ``50\%`` for the gold answers ``50``
  and ``0.5``. Golds of MATH and GSM8K for "what percent" come with and without the sign (47 of MATH's 12,500 with it).
- A unit may be left out or added, never exchanged: ``5`` for ``5`` cm, not ``5`` m nor ``5`` cm².
- Decimals are exact: 0.333 is not 1/3, 3.14 is not pi. ``A \approx B`` is A or B where the two agree to 1 %.
- ``x = 5`` is not ``y = 5``. Brackets count: ``[0,1)`` is not ``[0,1]``, ``(1,2)`` not ``(2,1)``, not ``\{1,2\}``.
- An inequality equals an interval only where the interval cannot be taken for a point (``(1,2)`` can).
- A ``\pm`` is a list of both. An alternative such as ``5 \text{ or } 7`` is a list, so it is not 5.
- Any spelling of an equal value is right: ``2\cdot 5`` for 10, an unfactored polynomial for a factored one.
"""

from __future__ import annotations

import re
from typing import Any

from .base import LimitError
from .normal_form import MAX_ANSWER, normalise, rational
from .structure import NAME, NUMBER_WORDS, TEXT_ONLY, TIME, Answer, read

_LISTED = re.compile(r"^\d{1,3}(?:[,;]\d{3})+$", re.ASCII)
_ARTICLES = re.compile(r"\b(?:the|a|an)\b ?")


def equivalent(answer: str, gold: str) -> bool:
    """Whether ``answer`` means what ``gold`` means. Raises LimitError if that would take too large a computation.

    Not symmetric where the gold answer says more than the answer must: see the table above for what may stand for what.
    """
    one, other = normalise(answer), normalise(gold)
    if not one or not other:
        return False
    if one == other:
        return True
    left, right = rational(one), rational(other)
    if left is not None and right is not None:
        return left == right or _alternative_reading(one, other)
    if len(one) > 2 * MAX_ANSWER or len(other) > 2 * MAX_ANSWER:
        raise LimitError("an answer too long")
    return _same(read(one), read(other)) or _alternative_reading(one, other)


def _alternative_reading(one: str, other: str) -> bool:
    """``100,200`` is a number with a thousands separator; beside ``100, 200`` it is a list."""
    if not _LISTED.match(one) or not _LISTED.match(other):
        return False
    lists = [re.split("[,;]", text) for text in (one, other)]
    return len(lists[0]) == len(lists[1]) > 1 and sorted(lists[0]) == sorted(lists[1])


# ---------------------------------------------------------------------------------------------------- reading


def _same(a: Answer, g: Answer) -> bool:
    if a.kind == g.kind == "number":
        return rational(a.text) == rational(g.text)
    if "relation" in (a.kind, g.kind):
        return _same_relation(a, g)
    if "quantity" in (a.kind, g.kind):
        return _same_quantity(a, g)
    if "text" in (a.kind, g.kind):
        return _words(a) == _words(g) != ""
    if "based" in (a.kind, g.kind):
        return a.kind == g.kind and (a.text, a.mark) == (g.text, g.mark)
    if a.kind == "list" and g.kind == "union":  # x < 2 or x > 3
        intervals = [_interval(part) if part.kind == "relation" else None for part in a.parts]
        if len({_variable(part) for part in a.parts}) == 1 and None not in intervals:
            a = Answer("union", a.text, tuple(intervals))
    if "union" in (a.kind, g.kind):
        return _same_union(a, g)
    if {a.kind, g.kind} <= {"list", "set"}:
        return _same_members(a, g)
    if a.kind == g.kind == "group":
        return a.mark == g.mark and _in_order(a.parts, g.parts)
    if a.kind == "list" and g.kind == "group":
        return g.mark == "()" and r"\infty" not in g.text and _in_order(a.parts, g.parts)
    if "matrix" in (a.kind, g.kind):
        return a.kind == g.kind and len(a.parts) == len(g.parts) and all(map(_in_order, a.parts, g.parts))
    if {a.kind, g.kind} <= {"number", "expression"}:
        return _same_value(a, g)
    return False


def _in_order(a: tuple[Answer, ...], g: tuple[Answer, ...]) -> bool:
    return len(a) == len(g) and all(map(_same, a, g))


def _same_value(a: Answer, g: Answer) -> bool:
    from .expressions import parse, same  # sympy takes seconds to load; most answers do without

    return same(parse(a.text), parse(g.text))


def _same_members(a: Answer, g: Answer) -> bool:
    """One to one. Where one of them is a set, equal members count once. Words in a row have an order."""
    left, right = list(a.parts), list(g.parts)
    if a.kind == g.kind == "list" and all(p.kind == "text" and len(p.text) > 1 for p in left + right):
        return _in_order(a.parts, g.parts)
    if "set" in (a.kind, g.kind):
        left, right = _distinct(left), _distinct(right)
    if len(left) != len(right):
        return False
    for member in left:
        match = next((k for k, other in enumerate(right) if _same(member, other)), None)
        if match is None:
            return False
        del right[match]
    return True


def _distinct(parts: list[Answer]) -> list[Answer]:
    found: list[Answer] = []
    for part in parts:
        if not any(_same(part, other) for other in found):
            found.append(part)
    return found


def _same_quantity(a: Answer, g: Answer) -> bool:
    (left, one), (right, other) = ((x.parts[0], x.mark) if x.kind == "quantity" else (x, "") for x in (a, g))
    if one and other:
        return one == other and _same(left, right)
    if _same(left, right):
        return True
    if "%" in (one, other):
        hundredth = Answer("expression", rf"\frac{{{left.text if one else right.text}}}{{100}}")
        return (
            _same_value(hundredth, right if one else left) if left.kind in _SCALAR and right.kind in _SCALAR else False
        )
    return False


_SCALAR = ("number", "expression")


def _words(answer: Answer) -> str:
    r"""Text without case, articles and punctuation; "" for what holds mathematics."""
    text = TEXT_ONLY.sub(r"\1", answer.text)
    if answer.kind not in ("text", "number", "expression") or "\\" in text:
        return ""
    if TIME.match(text):
        return re.sub(r"(?<!\d)0+(?=\d:)", "", text.lower()).replace(" ", "")
    letters = text.strip(" ().,")
    if len(letters) == 1:
        return letters
    text = re.sub(r"[().,!'\"]", "", text.lower())
    text = _ARTICLES.sub("", text) if " " in text else text
    text = "".join(text.split())
    return str(NUMBER_WORDS.get(text, text))


def _same_relation(a: Answer, g: Answer) -> bool:
    if a.kind == g.kind == "relation":
        return _same_relations(a, g)
    relation, other = (a, g) if a.kind == "relation" else (g, a)
    operators = relation.mark.split()
    first, last = relation.parts[0], relation.parts[-1]
    if set(operators) == {r"\in"} and len(operators) == 1:
        return NAME.match(first.text) is not None and other.kind in ("group", "set", "union") and _same(last, other)
    if set(operators) <= {"=", r"\approx"}:
        if NAME.match(last.text) and not NAME.match(first.text):  # 5 = x
            relation = Answer("relation", relation.text, relation.parts[::-1], " ".join(reversed(operators)))
            first, operators = last, operators[::-1]
        turned = a.kind == "relation"
        sides = list(relation.parts[1:] if NAME.match(first.text) else relation.parts)
        if not _consistent(sides, operators[-(len(sides) - 1) :] if len(sides) > 1 else []):
            return False
        if NAME.match(first.text) is None and any(_symbols(side) for side in sides):
            return False
        return any(_same(side, other) if turned else _same(other, side) for side in sides)
    if other.kind in ("group", "union"):
        interval = _interval(relation)
        return interval is not None and _certain_interval(other) and _same(interval, other)
    return False


def _symbols(side: Answer) -> bool:
    from .expressions import parse

    if side.kind == "quantity":
        side = side.parts[0]
    if side.kind == "number":
        return False
    if side.kind != "expression":
        return True
    value = parse(side.text)
    return value is None or bool(value.free_symbols)


def _consistent(sides: list[Answer], operators: list[str]) -> bool:
    """Whether a chain of equal signs claims nothing false: ``5 = 7`` is no way to say both."""
    from .expressions import parse

    for one, other, operator in zip(sides, sides[1:], operators, strict=False):
        if operator == "=":
            if not _same(one, other):
                return False
            continue
        values = [parse((s.parts[0] if s.kind == "quantity" else s).text) for s in (one, other)]
        if any(v is None or v.free_symbols for v in values):
            return False
        near = [complex(v.evalf(30)) for v in values]
        if abs(near[0] - near[1]) > 0.01 * max(abs(near[0]), abs(near[1])):
            return False
    return True


_FLIPPED = {">": "<", r"\ge": r"\le"}


def _same_relations(a: Answer, g: Answer) -> bool:
    (left, one), (right, other) = _oriented(a), _oriented(g)
    if left == right and len(one) == len(other):
        if NAME.match(one[0].text) and NAME.match(other[0].text) and left[0] in ("=", r"\in"):
            if one[0].text == other[0].text:
                return _in_order(one[1:], other[1:]) or (left[0] == "=" and _same(one[-1], other[-1]))
        elif _in_order(one, other) or (left == ["="] and _in_order(one, other[::-1])):
            return True
        if len(left) == 1 and left[0] in ("=", r"\ne", "<", r"\le") and all(p.kind in _SCALAR for p in one + other):
            from .expressions import parse, proportional

            values = [parse(p.text) for p in (*one, *other)]
            if None in values:
                return False
            return proportional(values[0] - values[1], values[2] - values[3], left[0] in ("<", r"\le"))
    elif set(left) == set(right) == {"="} and one[0].text == other[0].text:
        return _same(one[-1], other[-1])
    return False


def _oriented(relation: Answer) -> tuple[list[str], tuple[Answer, ...]]:
    operators = relation.mark.split()
    if all(o in _FLIPPED for o in operators):
        return [_FLIPPED[o] for o in reversed(operators)], relation.parts[::-1]
    return operators, relation.parts


def _interval(relation: Answer) -> Answer | None:
    """``1 < x \\le 2`` as ``(1,2]``."""
    operators, sides = _oriented(relation)
    infinity = Answer("expression", r"\infty")
    if set(operators) - {"<", r"\le"}:
        return None
    if len(sides) == 3 and NAME.match(sides[1].text):
        mark = ("(" if operators[0] == "<" else "[") + (")" if operators[1] == "<" else "]")
        return Answer("group", relation.text, (sides[0], sides[2]), mark)
    if len(sides) == 2 and NAME.match(sides[0].text):
        return Answer(
            "group", relation.text, (Answer("expression", r"-\infty"), sides[1]), "()" if operators == ["<"] else "(]"
        )
    if len(sides) == 2 and NAME.match(sides[1].text):
        return Answer("group", relation.text, (sides[0], infinity), "()" if operators == ["<"] else "[)")
    return None


def _variable(relation: Answer) -> str:
    return next((side.text for side in relation.parts if NAME.match(side.text)), "")


def _certain_interval(answer: Answer) -> bool:
    return answer.kind == "union" or answer.mark != "()" or r"\infty" in answer.text


def _same_union(a: Answer, g: Answer) -> bool:
    """As sets of real numbers."""
    import sympy

    from .expressions import parse

    def subset(answer: Answer) -> Any:
        if answer.kind == "union":
            return sympy.Union(*map(subset, answer.parts))
        if answer.kind not in ("group", "set"):
            raise ValueError(answer.text)
        members = [parse(p.text) for p in answer.parts if p.kind in _SCALAR]
        if len(members) != len(answer.parts) or any(m is None or not m.is_extended_real for m in members):
            raise ValueError(answer.text)
        if answer.kind == "set":
            return sympy.FiniteSet(*members)
        if len(members) != 2:
            raise ValueError(answer.text)
        return sympy.Interval(*members, answer.mark[0] == "(", answer.mark[1] == ")")

    try:
        return bool(subset(a) == subset(g))
    except (ValueError, TypeError, NotImplementedError):
        left, right = (x.parts if x.kind == "union" else (x,) for x in (a, g))
        return _same_members(Answer("set", "", left), Answer("set", "", right))
