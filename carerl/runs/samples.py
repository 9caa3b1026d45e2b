"""Keeps the samples of an evaluation on disk, one row each with its tokens, so that none is sampled twice.

While an evaluation is under way they lie in parts (``step_000000.parts/``). In the end they are one table
(``step_000000.samples.parquet``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from carerl.runs.parts import Parts, check_same
from carerl.runs.tables import evaluation_stem
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
TOKEN_COLUMNS = {"response_ids": "list<int32>", "logprobs": "list<float>"}  # one entry a token
OPTION_COLUMNS = {  # one entry an option of the decision, whose token is at decision_position; empty without one
    "options": "list<string>",
    "option_ids": "list<int64>",
    "option_probs": "list<double>",
    "right_options": "list<string>",
}
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
        self._parts = Parts(
            stem.with_suffix(".parts"),
            stem.with_suffix(".samples.parquet"),
            COLUMNS | TOKEN_COLUMNS | OPTION_COLUMNS,
            ("suite", "number", "sample"),
            _LATER_COLUMNS,
            warn,
        )
        self._decode = decode

    def add(self, suite: str, groups: Mapping[int, Group]) -> None:
        """Adds graded groups, by their numbers. They stay in memory until :meth:`write_part` or :meth:`close`. A group
        that is added again, because more is known about it now, replaces the earlier one."""
        self._parts.add(row for number, group in groups.items() for row in self._group_rows(suite, number, group))

    def write_part(self) -> None:
        """Writes what was added since the last part to disk."""
        self._parts.write_part()

    def finished(self, suite: str, examples: Sequence[Example]) -> Finished:
        """Returns the groups of a suite that were on disk when the store was made, by their numbers. Raises ValueError
        if they are of other questions, or of these with another prompt or gold answer."""
        groups: Finished = {}
        for number, rows in sorted(self._earlier.get(suite, {}).items()):
            check_same(suite, number, rows[0], examples, self._prompt)
            samples = [_sample(row) for row in sorted(rows, key=lambda row: row["sample"])]
            groups[number] = Group(examples[number], samples)
        return groups

    @cached_property
    def _earlier(self) -> dict[str, dict[int, list[Mapping[str, Any]]]]:
        """The rows on disk by suite and number."""
        found: dict[str, dict[int, list[Mapping[str, Any]]]] = {}
        for row in self._parts.read():
            found.setdefault(row["suite"], {}).setdefault(row["number"], []).append(row)
        return found

    def close(self) -> Path:
        """Writes the whole table, in the order in which suites came and of their questions, and removes the parts.
        Returns its path."""
        return self._parts.close()

    def _prompt(self, example: Example) -> str:
        return self._decode(list(example.prompt_ids))

    def _group_rows(self, suite: str, number: int, group: Group) -> Iterable[dict[str, Any]]:
        prompt = self._prompt(group.example)
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


def read_samples(directory: str | Path, step: int) -> list[dict[str, Any]]:
    """Returns the rows of a finished evaluation. Raises FileNotFoundError."""
    import pyarrow.parquet as pq

    path = evaluation_stem(directory, step).with_suffix(".samples.parquet")
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows
