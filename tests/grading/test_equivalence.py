# ruff: noqa: E501 (tables, a case a line)
r"""Equality of answers: chosen cases both ways, rewrites of MATH's own answers, random pairs, random expressions.

Truth comes from construction (``rewrites``), from exact arithmetic written here, or from a list; never from the grader.
Not covered: time and memory (``tests/grading/test_pool.py``).
"""

from __future__ import annotations

import itertools
import json
import random
import re
from fractions import Fraction
from pathlib import Path

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from carerl.grading import LimitError, equivalent, normalise
from tests.grading.rewrites import MISSES, SAME

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"

EQUAL = [
    ("3 1/2", r"3\frac12"), ("10 cm", r"10\text{ cm}"), ("10 centimeters", r"10\text{ cm}"), ("50", r"50\%"), ("50%", "50"),
    ("0.5", r"50\%"), ("50%", r"\frac12"), (r"2\pi-4", r"-4+2\pi"), ("sqrt(12)", r"2\sqrt3"), (r"\frac{\sqrt2}{2}", r"\frac{1}{\sqrt{2}}"),
    ("x^2-1", "(x-1)(x+1)"), ("2, 1", "1,2"), (r"\{2,1\}", "1,2"), (r"2, 3, \text{ and } 4", "2,3,4"), (r"1\text{ or }2", "2,1"),
    (r"1-\sqrt{19},1+\sqrt{19}", r"1 \pm \sqrt{19}"), (r"\{1-\sqrt5,1+\sqrt5,-2\}", r"\{1\pm\sqrt{5},-2\}"), (r"x=\pm 2", "-2,2"),
    ("(1,2)", r"\left(1,\frac{4}{2}\right)"), ("x>=1", r"[1,\infty)"), (r"1\le x<2", "[1,2)"), (r"x\in(1,2]", "(1,2]"),
    (r"(-\infty,1)\cup(1,\infty)", r"(1,\infty)\cup (-\infty,1)"), (r"[0,2)\cup[2,3]", r"[0,1]\cup(1,3]"), (r"[0,7)\cup\{-1\}", r"\{-1\} \cup [0,7)"),
    (r"\begin{bmatrix}1\\0.5\end{bmatrix}", r"\begin{pmatrix}1\\\frac12\end{pmatrix}"), ("2x-y+3=0", "y=2x+3"), ("-4x+2y=6", "y=2x+3"),
    ("monday", r"\text{Monday}"), ("the two lines", r"\text{two lines}"), ("C", r"\text{(C)}"), ("42 dollars", r"\$42"), (r"\$42.00", "42"),
    ("60 degrees", r"60^\circ"), ("100,200", "100, 200"), ("81256", "81,256"), ("8:34 PM", r"8\!:\!34 \text{ p.m.}"), ("05:00", r"5\!:\!00"),
    (r"\frac23", r"\$\dfrac23 \approx \$0.67"), (r"56\%", r"0.56 = 56\%"), ("8.24", r"\approx 8.24 \text{ mph}"), ("1.5 million", "1500000"),
    ("A, D", r"\text{A,D}"), ("4", r"\mbox{four}"), (r"82\ge g(x) \ge -80", r"-80\leq g(x)\leq 82"), (r"0.\overline{3}", r"\frac13"),
    (r"\frac{2^{2005}+1}{3 \cdot 2^{2006}}", r"\frac{1+2^{2005}}{2^{2006} \cdot 3}"), (r"1.5\times 10^3", "1500"), ("5!", "120"),
    (r"\frac{1}{2}\ln 2", r"\ln\sqrt2"), (r"\sin 30^\circ", r"\frac12"), (r"e^{i\pi}", "-1"), (r"32\text{ square cm}", r"32\text{ cm}^2"),
    ("x^{10}", "x^10"), ("f(x)=x^2", "x^2"), ("12 + 1 = 13", "13"), ("3(4)", "12"), (r"(2)\frac12", "1"), ("1,2", "(1,2)"), ("152a_{11}", "152A_{11}"),
    ("−5", "-5"), ("½", "0.5"), ("10²", "100"), ("5 apples", "5"), (r"x<2\text{ or }x>3", r"(-\infty,2)\cup(3,\infty)"), (r"\{x \mid x>3\}", r"(3,\infty)"), ("5 = x", "5"), ("(x,y)=(1,2)", "(1,2)"),
    ("1e9", "1000000000"), ("2.5E-1", r"\frac14"), ("$1,000", "1000"), (r"\$1,000.50", "1000.5"), (r"-\$1,000", "-1000"),
    (r"\mathbf{5}", "5"), (r"\mathbb{R}", r"(-\infty,\infty)"), (r"\frac13 \approx 0.333", r"\frac13"), (r"\text{CBAD}", "cbad"),
    ("Yes.", "yes"), ("no", "No"), ("NO", "no"), (r"\text{No.}", "no"), ("Odd", "odd"), ("red", "Red"), ("bob", "Bob"), ("ANN", "Ann"), ("true", "TRUE"), ("ba", "ab"), ("NONE", "none"), ("5, AB", "AB, 5"),
]  # fmt: skip

DIFFERENT = [
    ("0.333", "1/3"), ("0.333333333", "1/3"), ("3.14", r"\pi"), ("(1,2)", "(2,1)"), ("[0,1)", "[0,1]"), ("5", "-5"), ("10", "10^2"),
    ("10^2", "10"), ("52_8", "52"), ("52", "52_8"), ("42", "52_8"), ("52_9", "52_8"), ("x=5", "y=5"), (r"\{1,2\}", r"\{1,2,3\}"), ("1,2", "1,2,3"),
    ("5 cm", "5 m"), ("5 cm", r"5\text{ cm}^2"), ("5 or 7", "5"), (r"5 \text{ or } 7", "5"), ("5=7", "7"), ("5=7", "5"),
    (r"5\approx7", "5"), (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}"), (r"\frac{1}{2004!}", r"\frac{1}{2006!}"), (r"1-\frac1e", r"1+\frac1e"),
    (r"\pm 2021", "2021"), ("2021", r"\pm 2021"), ("12:00", "1:00"), ("1:2:3", "1:4:9"), ("3x-1y+13=0", "3x+4y+14=0"), ("n=2,3,4", "n=1,2,3"),
    ("D=(0,1)", "D=(0,1.5)"), ("19,46", "21,36"), ("x<3", r"x\le 3"), ("x<3", "x>3"), ("x>3", r"(-\infty,3)"), ("2x>6", "2x<6"), ("-x<3", "x<3"),
    (r"\text{Monday}", r"\text{Tuesday}"), (r"\text{A}", r"\text{a}"), ("x", "X"), ("ab", "AB"), ("AB", "ab"), ("AB", "BA"), ("abc", "ABC"), ("XYZ", "xyz"), ("Ab", "ab"), ("on", "no"), ("no", "yes"), ("Ned", "red"), ("2x", "2y"), ("not 5", "5"), ("5 not 7", "5"), ("1 2", "12"),
    ("3 1/2", "31/2"), ("2^35", "2^{3}5"), ("8:34 am", "8:34 pm"), ("42 cents", r"\$42"), ("50", "0.5"), (r"0.5\%", r"50\%"), ("5 million", "5"),
    ("5 dozen", "5"), ("sqrt(x^2)", "x"), ("", "5"), ("5 squared", "5"), ("5 less than 7", "5"), ("5 halves", "5"), ("10^{100}+1", "10^{100}"),
    (r"\sqrt2+10^{-45}", r"\sqrt2"), ("x^2", "x_2"), (r"2\pi", "2"), ("(1,234)", "1234"), ("1,2,2", "1,2"), ("5", r"\{5,6\}"), ("5", r"\{5\}"),
    (r"(-\infty,3]", r"(-\infty,3)"), (r"\infty", r"-\infty"), ("1/0", "0"), ("x", "5"), ("A or B", "A"), (r"\text{A or B}", r"\text{A}"),
    (r"\text{even or odd}", r"\text{even}"), ("y=2x+3", "y=2x-3"), ("2x+3", "y=2x+4"), (r"\{\}", "0"), ("None", "0"), ("1e9", "1000000001"), ("2e", "2"), (r"\$1,000", "100"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1&2\end{pmatrix}"), (r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
    ("7", "3(4)"), ("x^2+1=0", "x^2-1=0"), ("3:2", "2:3"), (r"\text{neither}", r"\text{either}"), ("[0,1]", "0,1"), ("(1,2)", "1,2"), ("81, 256", "81256"),
    (r"[0,1)\cup(1,2]", "[0,2]"), ("i", "-i"), ("x<2, y>3", r"(-\infty,2)\cup(3,\infty)"), ("5 = 6 = x", "5"), (r"x<2\text{ or }x>3", r"(-\infty,2]\cup(3,\infty)"), ("e", "2.718281828"), ("x=5, y=3", "x=3, y=5"), (r"\text{0}1", "1_0"), ("5^\\circ C", "5^\\circ F"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "gold"), EQUAL)
def test_equal(answer: str, gold: str) -> None:
    assert equivalent(answer, gold)


@pytest.mark.parametrize(("answer", "gold"), DIFFERENT)
def test_different(answer: str, gold: str) -> None:
    assert not equivalent(answer, gold)


@pytest.mark.parametrize(
    "answer", ["9^{9^{9^9}}", "2^{10^{10}}", r"(10^9)!", r"\binom{10^9}{10^8}", "10^{123456789}", r"\sum_{i=1}^{10^9} i^i", "(" * 200 + "1" + ")" * 200,
               "((((9^9)^9)^9)^9)^9", r"\binom{100000}{50000}", ",".join("1" * 200), "(" * 22 + "x" + ")" * 22, "|x" * 20, "a_{" * 19 + "|x|" * 9 + "}" * 19, "[[[[1]]]]x",
               r"\sum_{i=1}^{300} \sum_{j=1}^{300} \frac{1}{i+j}", "+".join("f(x)" for _ in range(70)), r"\begin{pmatrix}" + r"1&2\\" * 70 + r"\end{pmatrix}"],
)  # fmt: skip
def test_what_is_too_large_to_judge_is_refused_and_not_computed(answer: str) -> None:
    with pytest.raises(LimitError):
        equivalent(answer, "5")


def math_golds() -> list[str]:
    rows = []
    for name in ("math_train", "math_test"):
        path = DATA / f"{name}.jsonl"
        if not path.is_file():
            pytest.skip("MATH is not at hand")
        rows += [json.loads(line) for line in path.open(encoding="utf-8")]
    return sorted({(row.get("extra") or {}).get("full_answer") or row["answer"] for row in rows})


def wrong_verdicts(per_class: int) -> tuple[list[tuple[str, str, str]], dict[str, int]]:
    """What disagrees with the rewrites' truth, and how many pairs each class had."""
    golds, generator = math_golds(), random.Random(20260131)
    found, counts = [], {}
    for table, truth in ((SAME, True), (MISSES, False)):
        for name, rewrite in table.items():
            pairs = [(answer, gold) for gold in golds if (answer := rewrite(gold)) is not None]
            counts[name] = len(pairs)
            for answer, gold in generator.sample(pairs, min(per_class, len(pairs))):
                if equivalent(answer, gold) is not truth:
                    found.append((name, answer, gold))
    return found, counts


def test_rewrites_and_near_misses_of_real_answers() -> None:
    found, counts = wrong_verdicts(per_class=8)
    assert found == []
    assert min(counts.values()) >= 1, "a class without answers tests nothing"
    assert all(sum(counts[name] >= 5 for name in table) >= 40 for table in (SAME, MISSES))


@pytest.mark.long
def test_rewrites_and_near_misses_of_all_real_answers() -> None:
    found, counts = wrong_verdicts(per_class=10**6)
    assert len(found) <= sum(counts.values()) / 2000, found[:50]


_DECIMAL = re.compile(r"^(-?)(\d+)(?:\.(\d+))?$")
_QUOTIENT = re.compile(r"^(-?)\\[dt]?frac\{(-?\d+)\}\{(\d+)\}$")


def value(gold: str) -> Fraction | str:
    """An oracle for plain numbers; other answers are taken for themselves, without spaces."""
    bare = re.sub(
        r"\\text\{[^{}]*\}(?:\^\d)?|\\mbox\{[^{}]*\}(?:\^\d)?|\\!|\\\$|\^\{?\\circ\}?|\\%|\s", "", gold
    ).rstrip(".")
    bare = re.sub(r"(?<=\d),(?=\d{3}(?:,|$|\.))", "", re.sub(r"^[a-zA-Z]=", "", bare))
    if match := _DECIMAL.match(bare):
        return Fraction(bare)
    if (match := _QUOTIENT.match(bare)) and int(match[3]):
        return Fraction(int(match[2]), int(match[3])) * (-1 if match[1] else 1)
    return bare.replace("dfrac", "frac").replace("tfrac", "frac").replace(r"\left", "").replace(r"\right", "")


def false_matches(pairs: int) -> list[tuple[str, str]]:
    """Of random pairs of different golds those called equal although the oracle, or their value, says otherwise."""
    golds, generator = math_golds(), random.Random(1)
    found = []
    for _ in range(pairs):
        answer, gold = generator.sample(golds, 2)
        if equivalent(answer, gold) and value(answer) != value(gold):
            found.append((answer, gold))
    return found


def test_random_pairs_of_answers_are_not_equal() -> None:
    assert false_matches(1_000) == []


@pytest.mark.slow
def test_20000_random_pairs_of_answers_are_not_equal() -> None:
    found = false_matches(20_000)
    assert len(found) <= 40, found


def test_pairs_of_equal_size_and_kind_are_not_equal_either() -> None:
    """Random pairs are mostly far apart; neighbours in the sorted list look alike."""
    golds = math_golds()
    start = random.Random(2).randrange(len(golds) - 800)
    near = golds[start : start + 800]
    found = [(a, b) for a, b in itertools.pairwise(near) if equivalent(a, b) and value(a) != value(b)]
    assert len(found) <= 8, found  # spellings of one answer that the oracle does not see


def random_tree(generator: random.Random, depth: int) -> tuple[str, sympy.Expr, int]:
    """LaTeX, value, and how tightly it binds."""
    if depth == 0:
        n, d = generator.randrange(2, 20), generator.randrange(2, 9)
        return generator.choice(
            [(str(n), sympy.Integer(n), 9), (rf"\frac{{{n}}}{{{d}}}", sympy.Rational(n, d), 8),
             (r"\pi", sympy.pi, 9), (rf"\sqrt{{{n}}}", sympy.sqrt(n), 9)]
        )  # fmt: skip
    a, b = random_tree(generator, depth - 1), random_tree(generator, generator.randrange(depth))
    n = generator.randrange(2, 12)

    def within(e: tuple[str, sympy.Expr, int], binding: int) -> str:
        return e[0] if e[2] >= binding else rf"\left({e[0]}\right)"

    return generator.choice(
        [(f"{within(a, 1)} + {within(b, 2)}", a[1] + b[1], 1), (f"{within(a, 1)} - {within(b, 2)}", a[1] - b[1], 1),
         (rf"{within(a, 3)} \cdot {within(b, 4)}", a[1] * b[1], 3), (rf"\frac{{{a[0]}}}{{{b[0]}}}", a[1] / b[1], 8),
         (f"({a[0]})({b[0]})", a[1] * b[1], 3), (f"{n}({b[0]})", n * b[1], 3), (f"{within(a, 9)}^{{2}}", a[1] ** 2, 5),
         (f"-{within(a, 3)}", -a[1], 2)]
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(60))
def test_random_expressions_equal_their_value_and_nothing_near_it(seed: int) -> None:
    """The value is printed by sympy, from the tree and not from the LaTeX that is read."""
    generator = random.Random(seed)
    text, exact, _ = random_tree(generator, generator.randrange(1, 4))
    if exact.has(sympy.zoo, sympy.nan):
        return
    assert equivalent(text, sympy.latex(sympy.expand(exact)))
    assert not equivalent(text, sympy.latex(sympy.expand(exact + sympy.Rational(1, 10**12))))
    assert not equivalent(text, sympy.latex(sympy.expand(exact * 2 + 1))) or exact == -1


ANSWERS = st.text(alphabet=r"0123456789.,/+-=()[]{}^_\ xyeAB$%", max_size=25) | st.sampled_from(
    [a for pair in EQUAL + DIFFERENT for a in pair]
)


@settings(max_examples=300, deadline=None)
@given(ANSWERS)
def test_the_normal_form_is_idempotent(answer: str) -> None:
    once = normalise(answer)
    assert normalise(once) == once


@settings(max_examples=150, deadline=None)
@given(ANSWERS)
def test_every_answer_equals_itself_or_is_nothing(answer: str) -> None:
    assert equivalent(answer, answer) == bool(normalise(answer))


@settings(max_examples=150, deadline=None)
@given(st.integers(-(10**9), 10**9), st.integers(1, 10**4), st.integers(-(10**9), 10**9), st.integers(1, 10**4))
def test_fractions_are_equal_exactly_if_their_values_are(a: int, b: int, c: int, d: int) -> None:
    assert equivalent(rf"\frac{{{a}}}{{{b}}}", f"{c}/{d}") == (Fraction(a, b) == Fraction(c, d))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_brackets_decide_whether_order_and_repetition_count(values: list[int], generator: random.Random) -> None:
    other = values[:]
    generator.shuffle(other)

    def written(brackets: str, numbers: list[int]) -> str:
        return brackets.replace("*", ", ".join(map(str, numbers)))

    assert equivalent(written("(*)", other), written("(*)", values)) == (other == values)
    assert equivalent(written("*", other), written("*", values))
    assert equivalent(written(r"\{*\}", sorted(set(values))), written(r"\{*\}", values))
    assert equivalent(written("*", other), written("*", [*values, values[0]])) is False


SYMMETRIC = [
    pair for pair in EQUAL if not any(mark in "".join(pair) for mark in ("=", r"\approx", "(1,2)", "f(x)", r"\cup"))
]


@pytest.mark.parametrize(("one", "other"), SYMMETRIC)
def test_equality_is_symmetric_but_for_what_may_stand_for_something_else(one: str, other: str) -> None:
    assert equivalent(other, one)
