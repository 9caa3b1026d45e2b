"""Keeps the samples of an evaluation on disk, one row each with its tokens, so that none is sampled twice.

While an evaluation is under way they lie in parts (``step_000000.parts/``). In the end they are one table
(``step_000000.samples.parquet``).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from carerl.runs.tables import evaluation_stem, write_parquet
from carerl.types import Decision, Example, Group, Outcome, Sample

COLUMNS: dict[str, str] = {
    "suite": "string",
    "number": "int64",  # of the question in its suite, from which its seed follows
    "example_id": "string",
    "sample": "int64",
    "prompt": "string",
    "response": "string",
    "gold": "string",
    "outcome": "string",
    "answer": "string",
    "reward": "float64",
    "confidence": "float64",
    "stated_confidence": "float64",
    "answerable": "bool",
    "reason": "string",
    "answer_prob": "float64",
    "decision_position": "int64",
    "truncated": "bool",
    "tokens": "int64",
    "weight_version": "int64",
}
TOKEN_COLUMNS = {"response_ids": "int32", "logprobs": "float32"}  # lists, one entry a token
# lists, one entry an option of the decision, whose token is at decision_position; empty where there is none
OPTION_COLUMNS = {"options": "string", "option_ids": "int64", "option_probs": "float64", "right_options": "string"}
_LATER_COLUMNS: dict[str, Any] = {"decision_position": None} | dict.fromkeys(
    OPTION_COLUMNS, ()
)  # older parts lack them

Finished = dict[int, Group]  # by the number of the question


class SampleStore:
    """Stores the samples of one evaluation. ``decode`` makes text of token ids, for people; only ids are read back.
    ``warn`` is called with parts that cannot be read; their questions are asked again."""

    def __init__(
        self,
        directory: str | Path,
        step: int,
        decode: Callable[[list[int]], str],
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        stem = evaluation_stem(directory, step)
        self.parts, self.table = stem.with_suffix(".parts"), stem.with_suffix(".samples.parquet")
        self._decode, self._warn = decode, warn
        self._rows: list[dict[str, Any]] = []

    def add(self, suite: str, groups: Mapping[int, Group]) -> None:
        """Adds graded groups, by their numbers. They stay in memory until :meth:`write_part` or :meth:`close`. A group
        that is added again, because more is known about it now, replaces the earlier one."""
        self._rows += [row for number, group in groups.items() for row in self._group_rows(suite, number, group)]

    def write_part(self) -> None:
        """Writes what was added since the last part to disk."""
        if self._rows:
            taken = [int(path.stem.removeprefix("part_")) for path in self.parts.glob("part_*.parquet")]
            _write(self.parts / f"part_{max(taken, default=-1) + 1:05d}.parquet", self._rows)
            self._rows = []

    def finished(self, suite: str, examples: Sequence[Example]) -> Finished:
        """Returns the groups of a suite that were on disk when the store was made, by their numbers. Raises ValueError
        if they are of other questions, or of these with another prompt or gold answer."""
        groups: Finished = {}
        for number, rows in sorted(self._earlier.get(suite, {}).items()):
            first, example = rows[0], examples[number] if number < len(examples) else None
            if example is None or (first["example_id"], first["prompt"], first["gold"]) != (
                example.id,
                self._decode(list(example.prompt_ids)),
                example.gold,
            ):
                raise ValueError(
                    f"question {number} of {suite} was {first['example_id']}, with its prompt and gold answer, and is "
                    "not any more: the data or the prompt has changed"
                )
            groups[number] = Group(example, [_sample(row) for row in sorted(rows, key=lambda r: r["sample"])])
        return groups

    @cached_property
    def _earlier(self) -> dict[str, dict[int, list[dict[str, Any]]]]:
        """The rows on disk by suite and number."""
        found: dict[str, dict[int, list[dict[str, Any]]]] = {}
        for row in _newest(self._read_parts()):
            found.setdefault(row["suite"], {}).setdefault(row["number"], []).append(row)
        return found

    def close(self) -> Path:
        """Writes the whole table, in the order in which suites came and of their questions, and removes the parts.
        Returns its path."""
        rows = [{**_LATER_COLUMNS, **row} for row in _newest([*self._read_parts(), *self._rows])]
        suites = {name: k for k, name in enumerate(dict.fromkeys(row["suite"] for row in rows))}
        rows.sort(key=lambda row: (suites[row["suite"]], row["number"], row["sample"]))
        _write(self.table, rows)
        shutil.rmtree(self.parts, ignore_errors=True)
        self._rows = []
        return self.table

    def _read_parts(self) -> list[dict[str, Any]]:
        """Returns the rows on disk: those of the table where there is one, else those of the parts."""
        import pyarrow.parquet as pq

        if self.table.is_file():
            rows: list[dict[str, Any]] = pq.read_table(self.table).to_pylist()
            return rows
        found: list[dict[str, Any]] = []
        for path in sorted(self.parts.glob("part_*.parquet")):
            try:
                found += pq.read_table(path).to_pylist()
            except (OSError, ValueError) as error:
                self._warn(f"{path} cannot be read ({error}): its questions are asked again")
                path.rename(path.with_suffix(".damaged"))
        return found

    def _group_rows(self, suite: str, number: int, group: Group) -> Iterable[dict[str, Any]]:
        prompt = self._decode(list(group.example.prompt_ids))
        for index, sample in enumerate(group.samples):
            yield {
                "suite": suite,
                "number": number,
                "example_id": sample.example_id,
                "sample": index,
                "prompt": prompt,
                "response": self._decode(list(sample.response_ids)),
                "gold": group.example.gold,
                "outcome": str(sample.outcome) if sample.outcome is not None else None,
                "answer": sample.answer,
                "reward": sample.reward,
                "confidence": sample.confidence,
                "stated_confidence": sample.stated_confidence,
                "answerable": sample.answerable,
                "reason": sample.reason,
                "answer_prob": sample.answer_prob,
                "truncated": sample.truncated,
                "tokens": len(sample.response_ids),
                "weight_version": sample.weight_version,
                "response_ids": sample.response_ids,
                "logprobs": sample.rollout_logprobs,
                **_decision_row(sample),
            }


def _newest(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns each sample once, as it was added last."""
    return list({(row["suite"], row["number"], row["sample"]): row for row in rows}.values())


def _sample(row: Mapping[str, Any]) -> Sample:
    outcome = Outcome(row["outcome"]) if row["outcome"] is not None else None
    return Sample(
        row["example_id"],
        tuple(row["response_ids"]),
        tuple(row["logprobs"]),
        row["truncated"],
        (row["weight_version"], row["weight_version"]),
        outcome,
        row["answer"],
        row["reward"],
        row["confidence"],
        row["stated_confidence"],
        row["answerable"],
        row["reason"],
        *_decision(row),
    )


def _decision_row(sample: Sample) -> dict[str, Any]:
    decision = sample.decision
    if decision is None:
        return _LATER_COLUMNS
    return {
        "decision_position": decision.position,
        "options": tuple(decision.token_ids),
        "option_ids": tuple(decision.token_ids.values()),
        "option_probs": sample.option_probs or (),
        "right_options": decision.right,
    }


def _decision(row: Mapping[str, Any]) -> tuple[Decision | None, tuple[float, ...] | None]:
    """Returns decision and option probabilities of a row; None for what it lacks, as a table of before does."""
    if not row.get("options"):
        return None, None
    token_ids = dict(zip(row["options"], row["option_ids"], strict=True))
    chosen = next(label for label, token in token_ids.items() if token == row["response_ids"][row["decision_position"]])
    decision = Decision(row["decision_position"], chosen, token_ids, tuple(row["right_options"]))
    return decision, tuple(row["option_probs"]) or None


def _write(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa

    columns = {name: pa.array([row[name] for row in rows], pa.type_for_alias(kind)) for name, kind in COLUMNS.items()}
    for name, kind in {**TOKEN_COLUMNS, **OPTION_COLUMNS}.items():
        columns[name] = pa.array([list(row[name]) for row in rows], pa.list_(pa.type_for_alias(kind)))
    write_parquet(path, pa.table(columns))


def read_samples(directory: str | Path, step: int) -> list[dict[str, Any]]:
    """Returns the rows of a finished evaluation. Raises FileNotFoundError."""
    import pyarrow.parquet as pq

    path = evaluation_stem(directory, step).with_suffix(".samples.parquet")
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows
