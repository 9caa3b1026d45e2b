r"""Decides whether two final answers mean the same: structure first, then the value of each part.

An answer is read into one of these kinds, and kinds are not mixed unless the table says so:

=========== ============================== ==============================================================
kind        written                        equal when
=========== ============================== ==============================================================
number      ``7/4  1,234  3\frac12``       same rational
expression  ``2\pi - 4``                   same value (:mod:`~carerl.grading.math.expressions`)
quantity    ``10\text{ cm}  50\%  \$5``    same unit, or one of them without a unit, and same value
based       ``52_8``                       same digits and same base; never a number without a base
list        ``-2, 2   1 \text{ or } 3``    same members in any order, as often as they occur
set         ``\{1, 2\}``                   same members in any order; a list may stand for a set
group       ``(1,2)  [0,1)``               same brackets, same parts in order; ``1,2`` may stand for ``(1,2)``
union       ``[0,1) \cup (2,3)``           same set of real numbers (``real_sets``), as inequalities or as intervals
matrix      ``\begin{pmatrix}...``         same shape, same entries; the kind of brackets does not matter
relation    ``y = 2x+3   x < 5``           same relation up to a factor; ``x = 5``, ``f(2) = 5`` may stand for ``5``
text        ``\text{Monday}  8:34 p.m.``   same words but for case, articles and punctuation (``words``: what a word is)
=========== ============================== ==============================================================

[ours] Decisions where usage differs:

- Percent: ``50\%``, ``50`` and ``0.5`` are accepted for the gold answer ``50\%``; ``50\%`` for the gold answers ``50``
  and ``0.5``, but ``0.5\%`` not for ``0.5``. Golds of MATH and GSM8K for "what percent" come with and without the sign
  (47 of MATH's 12,500 with it).
- A unit may be left out or added, never exchanged: ``5`` for ``5`` cm, not ``5`` m nor ``5`` cm² (``units``).
- ``1/2x`` is half of x: a plain quotient of digits binds more tightly than a factor.
- Decimals are exact: 0.333 is not 1/3, 3.14 is not pi. Or they are a computer's: 15 to 17 digits that are those of the
  gold's value, or of the double nearest to it (``doubles``): 0.3333333333333333 is 1/3, 0.1 + 0.2 in doubles
  (0.30000000000000004) is not 0.3. ``A \approx B`` is A or B where the two agree to 1 %.
- A comma before three digits and without a space behind it may separate thousands, in expressions too (``thousands``).
- For a gold relation the right side alone is right only if the left is a single name or a ratio of names: ``5`` for
  ``x = 5``, not ``0`` for ``a^2 + b = 0``, not ``41`` for ``m + n = 41``. A response may say more than the gold answer:
  ``m + n = 41`` is 41.
- A constant of integration may be called C, c, K or k.
- A comment behind a value is dropped where it cannot make another answer (``ornaments``): ``42 (exact)`` is 42,
  ``42 (or 43)`` is not.
- ``5 p.m.`` is 5:00 p.m. ``90^{o}`` is 90 degrees. ``n = 1, 2`` is ``n = 1, n = 2``. Words in a row have an order;
  numbers, points, times and ratios have none.
- ``x = 5`` is not ``y = 5``. Brackets count: ``[0,1)`` is not ``[0,1]``, ``(1,2)`` not ``(2,1)``, not ``\{1,2\}``.
- An inequality equals an interval, even one that could be a point: ``1 < x < 2`` for ``(1,2)``.
- Names order a point: ``y=2, x=1`` is ``(1,2)``; ``1`` or ``2`` is not a point. Capitals in a row are points:
  ``CD`` is not ``DC``.
- A ``\pm`` is a list of both. An alternative such as ``5 \text{ or } 7`` is a list, so it is not 5.
- Any spelling of an equal value is right: ``2\cdot 5`` for 10, an unfactored polynomial for a factored one.
"""

from __future__ import annotations

import re

from carerl.grading.base import LimitError

from .doubles import SHORTEST, digits, is_double_of
from .named_values import assigned, in_order_of_names, is_label, is_single_name
from .normal_form import MAX_ANSWER, normalise, rational
from .notation import option_label
from .real_sets import describes_a_set, oriented, same_reals
from .structure import CONSTANT_ADDED, NAME, SCALAR, TEXT_ONLY, TIME, Answer, read
from .thousands import ungrouped
from .units import excludes
from .words import same_word

_LISTED = re.compile(r"^\d{1,3}(?:[,;]\d{3})+$", re.ASCII)
_LETTER = re.compile(r"^(?:\\text\{)?\(?([A-Z])\)?\}?$")
_ARTICLES = re.compile(r"\b(?:the|a|an)\b ?")


def equivalent(answer: str, gold: str) -> bool:
    """Returns True if ``answer`` means what ``gold`` means. Raises LimitError if that would take too large a
    computation.

    Not symmetric where the gold answer says more than the answer must: the table above says what may stand for what.
    """
    one, other = normalise(answer), normalise(gold)
    if not one or not other:
        return False
    if one == other or _equal(one, other):
        return True
    if "," not in answer and "," not in gold:
        return False
    answer, gold = answer[: 2 * MAX_ANSWER], gold[: 2 * MAX_ANSWER]
    plain, wanted = ungrouped(answer), ungrouped(gold)
    return (plain, wanted) != (answer, gold) and _equal(normalise(plain), normalise(wanted))


def _equal(one: str, other: str) -> bool:
    """Returns True if two normal forms mean the same."""
    (label, one), (_, other) = option_label(one), option_label(other)
    if label and (letter := _LETTER.match(other)):
        return label == letter[1]
    left, right = rational(one), rational(other)
    if left is not None and right is not None:
        return left == right or is_double_of(one, right) or _alternative_reading(one, other)
    if len(one) > 2 * MAX_ANSWER or len(other) > 2 * MAX_ANSWER:
        raise LimitError("an answer too long")
    return _same(read(one), read(other)) or _alternative_reading(one, other)


def _alternative_reading(one: str, other: str) -> bool:
    """Compares two lists: ``100,200`` is a number with a thousands separator, but a list beside ``100, 200``."""
    if not _LISTED.match(one) or not _LISTED.match(other):
        return False
    lists = [re.split("[,;]", text) for text in (one, other)]
    return len(lists[0]) == len(lists[1]) > 1 and sorted(lists[0]) == sorted(lists[1])


def _same(a: Answer, g: Answer) -> bool:
    if a.kind == g.kind == "expression" and a.text == g.text:
        return True
    if {a.kind, g.kind} <= {"expression", "text"} and (as_words := same_word(a.text, g.text)) is not None:
        return as_words
    if a.kind == g.kind == "number":
        value = rational(g.text)
        return rational(a.text) == value or (value is not None and is_double_of(a.text, value))
    if (as_points := _same_assignment(a, g)) is not None:
        return as_points
    if describes_a_set(a) or describes_a_set(g):
        as_sets = same_reals(a, g)
        if as_sets is not None:
            return as_sets
    if "relation" in (a.kind, g.kind):
        return _same_relation(a, g)
    if "quantity" in (a.kind, g.kind):
        return _same_quantity(a, g)
    if "text" in (a.kind, g.kind):
        return _words(a) == _words(g) != ""
    if "based" in (a.kind, g.kind):
        return a.kind == g.kind and (a.text, a.mark) == (g.text, g.mark)
    if "union" in (a.kind, g.kind):
        left, right = (x.parts if x.kind == "union" else (x,) for x in (a, g))
        return _same_members(Answer("set", "", left), Answer("set", "", right))
    if {a.kind, g.kind} <= {"list", "set"}:
        return _same_members(a, g)
    if a.kind == g.kind == "group":
        return a.mark == g.mark and _in_order(a.parts, g.parts)
    if a.kind == "list" and g.kind == "group":
        point = g.mark == "()" and r"\infty" not in g.text and a.mark != "or"
        return point and all(part.kind in SCALAR for part in a.parts) and _in_order(a.parts, g.parts)
    if "matrix" in (a.kind, g.kind):
        return a.kind == g.kind and len(a.parts) == len(g.parts) and all(map(_in_order, a.parts, g.parts))
    if {a.kind, g.kind} <= {"number", "expression"}:
        return _same_value(a, g)
    return False


def _in_order(a: tuple[Answer, ...], g: tuple[Answer, ...]) -> bool:
    return len(a) == len(g) and all(map(_same, a, g))


def _same_assignment(a: Answer, g: Answer) -> bool | None:
    """Compares ``x=1, y=2`` with a point, with another such list, or, as a gold, with its values in the order in which
    it writes them. Returns None where neither side gives names, or one side does and the other is no point."""
    left, right = assigned(a), assigned(g)
    if left and right:
        values = dict(zip(*right, strict=True))
        return set(left[0]) == set(values) and all(_same(v, values[n]) for n, v in zip(*left, strict=True))
    named, other = (left, g) if left else (right, a)
    if right is not None and a.kind == "list" and a.mark != "or":  # values of different names are no solutions of one
        return _in_order(a.parts, right[1])
    if named is None or other.kind != "group":
        return None
    return other.mark == "()" and _in_order(in_order_of_names(*named), other.parts)


def _same_value(a: Answer, g: Answer) -> bool:
    from .expressions import parse, real, same  # sympy takes seconds to load; most answers do without

    if same(parse(a.text), parse(g.text)):
        return True
    if digits(a.text) >= SHORTEST and (value := real(parse(g.text))) is not None:
        return is_double_of(a.text, value)
    return _up_to_the_constant(a.text, g.text)


_VARIABLES = set("tuvxyz")
_OTHERS = set("aeimnr")  # parameters, beside a capital C


def _up_to_the_constant(answer: str, gold: str) -> bool:
    """Returns True if two antiderivatives differ only in the name of the constant of integration."""
    left, right = CONSTANT_ADDED.match(answer), CONSTANT_ADDED.match(gold)
    if left is None or right is None or (name := right[2] or right[3]) not in ("C", "c"):
        return False
    rest, wanted = left[1] or left[4], right[1] or right[4]
    names = set("".join(re.findall(r"(?<![\\a-zA-Z])[a-zA-Z]+", re.sub(r"\\[a-zA-Z]+", " ", rest + " " + wanted))))
    if not names & _VARIABLES or not names <= (_VARIABLES | _OTHERS if name == "C" else _VARIABLES | {"e"}):
        return False
    return _same(read(rest), read(wanted))


def _same_members(a: Answer, g: Answer) -> bool:
    """Pairs the members one to one. If one side is a set, equal members count once. Words in a row have an order."""
    left, right = list(a.parts), list(g.parts)
    if a.kind == g.kind == "list" and all(map(_is_word, left + right)):
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


def _is_word(part: Answer) -> bool:
    """Returns True if a member of a list is text of more than one letter, and neither a time nor a ratio."""
    return part.kind == "text" and len(part.text) > 1 and not TIME.match(part.text)


def _distinct(parts: list[Answer]) -> list[Answer]:
    found: list[Answer] = []
    for part in parts:
        if not any(_same(part, other) for other in found):
            found.append(part)
    return found


def _same_quantity(a: Answer, g: Answer) -> bool:
    (left, one), (right, other) = ((x.parts[0], x.mark) if x.kind == "quantity" else (x, "") for x in (a, g))
    if one.split(" ")[0] == other.split(" ")[0] == "degree" and "degree" in (one, other):
        one = other = "degree"  # of which scale, one of them does not say
    if excludes(one, other):
        return False
    if left.kind not in SCALAR or right.kind not in SCALAR:
        return _same(left, right)
    if one == "%" != other:
        size = rational(right.text)  # 0.5% is not 0.5, but 50% is what is asked for by "what percent: 50"
        return ((size is None or abs(size) >= 1) and _same(left, right)) or _same_value(_over(left, "100"), right)
    if other == "%" != one:
        return _same(left, right) or _same_value(left, _over(right, "100"))
    if _same(left, right):
        return True
    if {one, other} == {"degree", ""}:  # an angle in radians
        angle, turn = (left, right) if one else (right, left)
        return r"\pi" in turn.text and _same_value(_over(angle, "180", r"\pi\cdot "), turn)
    return False


def _over(value: Answer, below: str, factor: str = "") -> Answer:
    return Answer("expression", rf"\frac{{{factor}({value.text})}}{{{below}}}")


def _words(answer: Answer) -> str:
    r"""Returns text without case, articles and punctuation; "" for text that holds mathematics."""
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
    return text


def _same_relation(a: Answer, g: Answer) -> bool:
    if a.kind == g.kind == "relation":
        return _same_relations(a, g)
    relation, other = (a, g) if a.kind == "relation" else (g, a)
    operators = relation.mark.split()
    first, last = relation.parts[0], relation.parts[-1]
    if operators == [r"\in"]:
        return NAME.match(first.text) is not None and other.kind in ("group", "set", "list") and _same(last, other)
    if not set(operators) <= {"=", r"\approx"}:
        return False
    if is_label(last) and not is_label(first):  # 5 = x
        relation = Answer("relation", relation.text, relation.parts[::-1], " ".join(reversed(operators)))
        first, operators = relation.parts[0], operators[::-1]
    named = is_label(first) if a.kind == "relation" else is_single_name(first, last)
    sides = list(relation.parts[1:] if named else relation.parts)
    if not _consistent(sides, operators[-(len(sides) - 1) :] if len(sides) > 1 else []):
        return False
    turned = a.kind == "relation"
    return any(_same(side, other) if turned else _same(other, side) for side in sides)


def _consistent(sides: list[Answer], operators: list[str]) -> bool:
    """Returns False if a chain of equal signs claims something false, as ``5 = 7`` does: it does not give both
    values."""
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


def _same_relations(a: Answer, g: Answer) -> bool:
    (left, one), (right, other) = oriented(a), oriented(g)
    if left == right and len(one) == len(other):
        if NAME.match(one[0].text) and NAME.match(other[0].text) and left[0] in ("=", r"\in"):
            if one[0].text == other[0].text:
                return _in_order(one[1:], other[1:]) or (left[0] == "=" and _same(one[-1], other[-1]))
        elif _in_order(one, other) or (left == ["="] and _in_order(one, other[::-1])):
            return True
        if len(left) == 1 and left[0] in ("=", r"\ne", "<", r"\le") and all(p.kind in SCALAR for p in one + other):
            from .expressions import parse, proportional

            values = [parse(p.text) for p in (*one, *other)]
            if None in values:
                return False
            return proportional(values[0] - values[1], values[2] - values[3], left[0] in ("<", r"\le"))
    elif set(left) == set(right) == {"="} and one[0].text == other[0].text:
        return _same(one[-1], other[-1])
    return False
