"""Decoded questions on disk, and back: what a stopped evaluation goes on from.

Not covered: who draws them (controller), the metrics made of them (test_decoding)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from carerl.inference.base import Branch, Decoded
from carerl.runs.decoded import Answered, DecodedStore, by_method, decoded_ids, decoded_table, read_decoded
from carerl.types import Example, Outcome

EXAMPLES = [Example("a", (5, 6), "B"), Example("b", (7,), "?"), Example("c", (8,), "C")]
TREE = Decoded(
    (
        Branch((0,), (4, 71, 2, 9), 4, -1, (2, 4), (0.75, 0.5), weight=0.625, answer="B"),
        Branch((0, 1), (4, 71, 3), 1, 0, (2, 3), (0.75, 0.125), pruned=True),
        Branch((2,), (4, 4), 2, -1, (2,), (0.25,), truncated=True, weight=0.25),
    ),
    winner=0,
    confidence=0.714,
    tokens=7,
    rounds=3,
    facts={"threshold": 0.2, "forks": 1.0},
)
ANSWERED = Answered("a", TREE, (Outcome.CORRECT, None, Outcome.TRUNCATED), "vote", 1.5)
SILENT = Answered(
    "b", Decoded((Branch((0,), (), 0),), -1, 0.0, 0, 1), (Outcome.UNPARSED,), "best", 0.25, answerable=False
)


def store(folder: Path, said: list[str] | None = None) -> DecodedStore:
    return DecodedStore(folder, 0, lambda ids: " ".join(map(str, ids)), (said if said is not None else []).append)


def test_what_is_added_comes_back_by_suite_and_method(tmp_path: Path) -> None:
    first = store(tmp_path)
    first.add("q3", "cat", 0, EXAMPLES[0], ANSWERED)
    first.add("q3", "greedy", 1, EXAMPLES[1], SILENT)
    assert store(tmp_path).finished("q3", "cat", EXAMPLES) == {}, "only what is on disk"
    first.write_part()
    again = store(tmp_path)
    assert again.finished("q3", "cat", EXAMPLES) == {0: ANSWERED.without_tokens()}
    assert again.finished("q3", "greedy", EXAMPLES) == {1: SILENT}
    assert again.finished("q4", "cat", EXAMPLES) == again.finished("q3", "deepconf", EXAMPLES) == {}


def test_one_question_is_read_alone(tmp_path: Path) -> None:
    first = store(tmp_path)
    for suite, method, number in [("q3", "greedy", 0), ("q3", "cat", 2), ("q3", "cat", 0)]:
        first.add(suite, method, number, EXAMPLES[number], replace(ANSWERED, example_id=EXAMPLES[number].id))
    first.close()
    assert decoded_ids(tmp_path, 0) == ["a", "c"] and decoded_ids(tmp_path / "none", 0) == []
    everything = read_decoded(tmp_path, 0)
    alone = read_decoded(tmp_path, 0, "a")
    assert alone == [one for one in everything if one.answered.example_id == "a"] and len(alone) == 2
    assert alone[0].answered.decoded == TREE and read_decoded(tmp_path, 0, "z") == []


def test_a_stopped_evaluation_makes_the_same_table_as_one_that_was_not(tmp_path: Path) -> None:
    """Order is that of suites and methods as they came, then of questions, in whatever order these ended."""
    whole, stopped = store(tmp_path / "whole"), store(tmp_path / "stopped")
    wanted = [("q3", "greedy", 0), ("q3", "cat", 2), ("q3", "cat", 0), ("facts", "greedy", 1)]
    for suite, method, number in wanted:
        whole.add(suite, method, number, EXAMPLES[number], replace(ANSWERED, example_id=EXAMPLES[number].id))
    for k, (suite, method, number) in enumerate(wanted):
        if k == 2:
            stopped.write_part()
            stopped = store(tmp_path / "stopped")
            assert list(stopped.finished("q3", "cat", EXAMPLES)) == [2]
        stopped.add(suite, method, number, EXAMPLES[number], replace(ANSWERED, example_id=EXAMPLES[number].id))
    assert pq.read_table(stopped.close()).equals(pq.read_table(whole.close()))
    found = read_decoded(tmp_path / "stopped", 0)
    assert [(one.suite, one.method, one.number) for one in found] == [
        ("q3", "greedy", 0), ("q3", "cat", 0), ("q3", "cat", 2), ("facts", "greedy", 1),
    ]  # fmt: skip
    assert list(by_method(found)["q3"]) == ["greedy", "cat"]
    assert not list(tmp_path.glob("*/*.parts")), "the table has them all"


def test_texts_of_responses_and_of_their_steps(tmp_path: Path) -> None:
    first = store(tmp_path)
    first.add("q3", "cat", 0, EXAMPLES[0], ANSWERED)
    first.close()
    (found,) = read_decoded(tmp_path, 0)
    assert (found.prompt, found.gold) == ("5 6", "B")
    assert found.responses == ("4 71 2 9", "4 71 3", "4 4")
    assert found.step_texts == (("4 71", "2 9"), ("4 71", "3"), ("4 4",))
    rows = pq.read_table(decoded_table(tmp_path, 0)).to_pylist()
    assert [row["elected"] for row in rows] == [True, False, False]
    assert sum(row["own"] for row in rows) == rows[0]["drawn"] == 7, "each token once"


@pytest.mark.parametrize("other", [
    Example("z", (5, 6), "B"), Example("a", (5, 7), "B"), Example("a", (5, 6), "C"), None,
])  # fmt: skip
def test_other_questions_are_refused(tmp_path: Path, other: Example | None) -> None:
    first = store(tmp_path)
    first.add("q3", "cat", 0, EXAMPLES[0], ANSWERED)
    first.write_part()
    with pytest.raises(ValueError, match="question 0 of q3 was a, with its prompt and gold answer"):
        store(tmp_path).finished("q3", "cat", [] if other is None else [other])


def test_a_damaged_part_is_put_aside_and_the_others_count(tmp_path: Path) -> None:
    first = store(tmp_path)
    for number in (0, 2):
        first.add("q3", "cat", number, EXAMPLES[number], replace(ANSWERED, example_id=EXAMPLES[number].id))
        first.write_part()
    (part, _) = sorted((tmp_path / "step_000000.decoded.parts").iterdir())
    part.write_bytes(part.read_bytes()[:100])
    said: list[str] = []
    assert list(store(tmp_path, said).finished("q3", "cat", EXAMPLES)) == [2]
    assert len(said) == 1 and part.name in said[0] and part.with_suffix(".damaged").is_file()


def test_no_table_is_no_questions_and_half_a_question_is_refused(tmp_path: Path) -> None:
    assert read_decoded(tmp_path, 0) == []
    with pytest.raises(ValueError, match="3 branches with 1 outcomes"):
        store(tmp_path).add("q3", "cat", 0, EXAMPLES[0], replace(ANSWERED, outcomes=(Outcome.CORRECT,)))


def test_rightness_is_the_elected_branchs(tmp_path: Path) -> None:
    assert ANSWERED.right and not SILENT.right
    abstained = replace(ANSWERED, outcomes=(Outcome.ABSTAINED, Outcome.CORRECT, None))
    assert not abstained.right and replace(abstained, answerable=False).right
