"""Samples of an evaluation on disk, and back.

Not covered: parts and a stop in the middle (controller/test_evaluation), engines (controller/test_decisions)."""

from __future__ import annotations

from pathlib import Path

from carerl.runs.samples import OPTION_COLUMNS, SampleStore, read_samples
from carerl.types import Decision, Example, Group, Outcome, Sample

EXAMPLE = Example("q0", (5, 6), "B")
DECISION = Decision(1, "B", {"A": 72, "B": 71, "C": 9}, ("B", "C"))


def sample(decision: Decision | None, probs: tuple[float, ...] | None) -> Sample:
    made = Sample("q0", (4, 71, 2), (-0.5, -0.25, -1.0), False, (3, 3), Outcome.CORRECT, "B", 1.0, 0.5, None)
    made.decision, made.option_probs = decision, probs
    return made


GROUP = Group(EXAMPLE, [sample(DECISION, (0.1, 0.3, 0.6)), sample(DECISION, None), sample(None, None)])


def stored(folder: Path) -> SampleStore:
    store = SampleStore(folder, 0, str)
    store.add("letters", {0: GROUP})
    store.write_part()
    return SampleStore(folder, 0, str)


def test_decisions_come_back_as_they_were(tmp_path: Path) -> None:
    again = stored(tmp_path).finished("letters", [EXAMPLE])
    assert again == {0: GROUP}
    first = again[0].samples[0]
    assert (first.answer_prob, first.likeliest, list(first.decision.token_ids)) == (0.3, "C", ["A", "B", "C"])  # type: ignore[union-attr]
    stored(tmp_path).close()
    rows = read_samples(tmp_path, 0)
    assert [row["answer_prob"] for row in rows] == [0.3, None, None]
    assert [row["decision_position"] for row in rows] == [1, 1, None]


def test_a_table_of_before_decisions_were_kept_is_read_and_its_decisions_are_not_known(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    stored(tmp_path)
    (part,) = (tmp_path / "step_000000.parts").glob("*.parquet")
    pq.write_table(pq.read_table(part).drop_columns([*OPTION_COLUMNS, "decision_position"]), part)
    (group,) = SampleStore(tmp_path, 0, str).finished("letters", [EXAMPLE]).values()
    assert [(one.decision, one.option_probs) for one in group.samples] == [(None, None)] * 3
    assert [(one.response_ids, one.outcome, one.answer) for one in group.samples] == [
        (one.response_ids, one.outcome, one.answer) for one in GROUP.samples
    ]


def test_an_old_part_and_a_new_one_make_one_table(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    stored(tmp_path)
    (part,) = (tmp_path / "step_000000.parts").glob("*.parquet")
    pq.write_table(pq.read_table(part).drop_columns([*OPTION_COLUMNS, "decision_position"]), part)
    store = SampleStore(tmp_path, 0, str)
    store.add("letters", {1: Group(Example("q1", (7,), "B"), [sample(DECISION, (0.1, 0.3, 0.6))])})
    store.close()
    rows = read_samples(tmp_path, 0)
    assert [row["option_probs"] for row in rows] == [[], [], [], [0.1, 0.3, 0.6]]
