"""Overlaps between training and evaluation questions: by hand, against a direct search, and on the real files."""

from __future__ import annotations

import random
import time
from collections import Counter

from carerl.grading import Gold
from carerl.tasks import BENCHMARKS
from carerl.tasks.rows.decontamination import PHRASE, WORDS, Overlap, overlaps, runs, words
from carerl.tasks.rows.questions import Question
from tests.tasks.shared_data import data_dir


def question(name: str, text: str, choices: tuple[str, ...] = ()) -> Question:
    return Question(name, text, Gold(("1",), tuple(zip("ABCDE", choices, strict=False))), "math")


def countdown(name: str, numbers: tuple[int, ...], target: int) -> Question:
    return Question(name, f"Using {numbers}, reach {target}.", Gold(numbers=numbers, target=target), "countdown")


ALPHABET = [f"w{i}" for i in range(40)]


def test_spelling_without_meaning_is_no_difference_and_a_sign_is_one() -> None:
    asked = [question("e", "What is $x^{2}+3x - 5$?")]
    assert overlaps([question("t", " what IS  $x^2 + 3 x-5$")], asked) == []  # 3x is a word, 3 x are two
    assert overlaps([question("t", " what IS  $x^2 + 3x-5$.")], asked) == [Overlap("t", "e", True)]
    assert overlaps([question("t", "What is $x^{2}+3x + 5$?")], asked) == []
    assert overlaps([question("t", "What is x ^ 2 + 3 ?")], asked) == []


def test_the_boundary_lies_at_thirteen_words() -> None:
    shared = ALPHABET[:13]
    asked = [question("e", " ".join(["before", *shared, "after"]))]
    found = overlaps([question("t", " ".join(["other", *shared, "words"]))], asked)
    assert found == [Overlap("t", "e", False)]
    assert overlaps([question("t", " ".join(["other", *shared[:12], "words"]))], asked) == []
    assert len(shared) == WORDS


def test_a_shorter_text_overlaps_as_a_whole_only() -> None:
    asked = [question("e", "one two three")]
    assert overlaps([question("t", "one two three four")], asked) == []
    assert overlaps([question("t", "One, two: three!")], asked) == []  # 3! is not 3
    assert overlaps([question("t", "One, two: three")], asked) == [Overlap("t", "e", True)]


def test_a_phrase_of_many_training_questions_says_nothing_but_a_whole_question_does() -> None:
    phrase = " ".join(ALPHABET[:14])
    asked = [question("e", f"{phrase} one")]
    few = [question(f"t{i}", f"{phrase} x{i}") for i in range(PHRASE)]
    assert len(overlaps(few, asked)) == PHRASE
    many = [*few, question("more", f"{phrase} y")]
    assert overlaps(many, asked) == []
    assert overlaps([*many, question("same", f"{phrase} one")], asked) == [Overlap("same", "e", True)]


def test_options_belong_to_a_question() -> None:
    asked = [question("e", "Which is it?", ("a rock", "a bird"))]
    assert overlaps([question("t", "Which is it?", ("a rock", "a tree"))], asked) == []
    assert overlaps([question("t", "Which is it?", ("a rock", "a bird"))], asked) == [Overlap("t", "e", True)]


def test_countdown_is_compared_by_its_numbers() -> None:
    asked = [countdown("e", (3, 5, 8), 40)]
    train = [countdown("t", (8, 3, 5), 40), countdown("u", (8, 3, 5), 41), countdown("v", (8, 3, 6), 40)]
    assert overlaps(train, asked) == [Overlap("t", "e", True)]


def test_against_a_direct_search() -> None:
    """Random texts of few different words, so that runs are shared; every pair compared word by word."""
    rng = random.Random(3)

    def text() -> str:
        start = rng.randrange(6)
        return " ".join(ALPHABET[start : start + rng.randrange(8, 18)] + rng.choices(ALPHABET, k=rng.randrange(4)))

    train = [question(f"t{i}", text()) for i in range(60)]
    asked = [question(f"e{i}", text()) for i in range(15)]
    split = {q.id: q.text.split() for q in train + asked}

    def shares(a: list[str], b: list[str]) -> set[tuple[str, ...]]:
        of_b = {tuple(b[j : j + WORDS]) for j in range(len(b) - WORDS + 1)}
        return {tuple(a[i : i + WORDS]) for i in range(len(a) - WORDS + 1)} & of_b

    phrases = Counter(run for t in train for run in {r for e in asked for r in shares(split[t.id], split[e.id])})
    wanted = {
        t.id
        for t in train
        if any(split[t.id] == split[e.id] for e in asked)
        or any(phrases[run] <= PHRASE for e in asked for run in shares(split[t.id], split[e.id]))
    }
    found = {overlap.train_id for overlap in overlaps(train, asked)}
    assert found == wanted and 0 < len(found) < len(train)
    assert any(count > PHRASE for count in phrases.values()), "the bound on phrases is at work"


def test_the_runs_of_a_text() -> None:
    assert runs(ALPHABET[:13]) == {" ".join(ALPHABET[:13])} and runs(["a"]) == {"a"}
    assert len(runs(ALPHABET)) == 40 - 13 + 1
    assert words(question("q", r"$\frac{1}{2}$ of 5! is 60.")) == ("frac", "1", "2", "of", "5!", "is", "60")


def test_the_pairs_that_math_shares_between_its_splits_are_found_in_seconds() -> None:
    directory = data_dir("math_train.jsonl", "math_test.jsonl")
    train, test = BENCHMARKS["math_train"].load(directory), BENCHMARKS["math_test"].load(directory)
    begin = time.process_time()
    found = overlaps(train, test)
    assert time.process_time() - begin < 20  # about 2 s
    exact = {(o.train_id.removeprefix("math-"), o.evaluation_id.removeprefix("math-")) for o in found if o.exact}
    assert exact == {
        ("train-01414", "test-01038"),
        ("train-02948", "test-04656"),
        ("train-00750", "test-03023"),  # differ in blanks inside formulas
        ("train-01598", "test-00311"),  # x^2 and x^{2}
    }
    assert len(found) == 679  # the others are problems of one pattern with other numbers, mostly


def test_gsm8k_shares_no_question_between_its_splits() -> None:
    directory = data_dir("gsm8k_train.jsonl", "gsm8k_test.jsonl")
    found = overlaps(BENCHMARKS["gsm8k_train"].load(directory), BENCHMARKS["gsm8k"].load(directory))
    assert not any(overlap.exact for overlap in found)
