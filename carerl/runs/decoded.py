"""Keeps on disk what methods of inference made of an evaluation's questions: a row for each branch, with its tokens.

While an evaluation is under way the rows lie in parts (``step_000000.decoded.parts/``). In the end they are one table
(``step_000000.decoded.parquet``). The rows of branch 0 alone are one row a question: what is the question's is the same
in all of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from carerl.inference.base import Branch, Decoded
from carerl.runs.parts import Parts, check_same
from carerl.runs.tables import evaluation_stem
from carerl.types import Example, Outcome

QUESTION_COLUMNS: dict[str, str] = {
    "suite": "string",
    "method": "string",
    "number": "int64",  # of the question in its suite, from which its seed follows
    "example_id": "string",
    "prompt": "string",
    "gold": "string",
    "answerable": "bool",  # false: abstaining is right
    "rule": "string",  # how the branches elect an answer, as carerl.inference.election names it
    "confidence": "float64",  # the elected answer's share of the votes' weight
    "drawn": "int64",  # tokens of all branches, pruned ones included, each once
    "rounds": "int64",  # how many times the engine was waited for
    "seconds": "float64",  # its part of the time that the method took on the suite: they add up to it
    "fact_names": "list<string>",  # what the method says of the question: thresholds, branches that it ended, ...
    "fact_values": "list<double>",
}
BRANCH_COLUMNS: dict[str, str] = {
    "branch": "int64",
    "path": "list<int64>",  # the place in the tree, from which the branch's seed was derived
    "parent": "int64",  # the branch that it was forked from; -1: none
    "own": "int64",  # the last tokens, those that were drawn for this branch alone
    "response": "string",
    "response_ids": "list<int32>",  # from the root on
    "steps": "list<int32>",  # where each step ends (exclusive)
    "step_texts": "list<string>",
    "confidences": "list<double>",  # one a step
    "pruned": "bool",
    "truncated": "bool",
    "weight": "float64",  # of its vote
    "answer": "string",  # in the normal form that is voted on; null: none
    "outcome": "string",  # null: not graded
    "elected": "bool",  # its answer won, and it is the branch that the method names for it
}
TOKENS = ("response", "response_ids", "step_texts")  # the columns that are large: only a person needs them
KEY = ("suite", "method", "number", "branch")


@dataclass(frozen=True, slots=True)
class Answered:
    """One question as a method answered it. ``outcomes``: what the grader found in each branch; None: not graded.
    ``rule``: how the branches elected, of :data:`carerl.inference.election.RULES`. ``seconds``: its part of the wall
    time that the method took on the suite."""

    example_id: str
    decoded: Decoded
    outcomes: tuple[Outcome | None, ...]
    rule: str
    seconds: float
    answerable: bool = True

    @property
    def right(self) -> bool:
        """True if the elected answer is right. No answer is wrong."""
        winner = self.decoded.winner
        return winner >= 0 and self.is_right(winner)

    def without_tokens(self) -> Answered:
        """Returns the question without the tokens of its branches, which are most of its memory and which no figure is
        computed from."""
        branches = tuple(replace(branch, token_ids=()) for branch in self.decoded.branches)
        return replace(self, decoded=replace(self.decoded, branches=branches))

    def is_right(self, branch: int) -> bool:
        """True if a branch's answer is right, or abstains where there is none."""
        outcome = self.outcomes[branch]
        return outcome is Outcome.CORRECT or (outcome is Outcome.ABSTAINED and not self.answerable)


@dataclass(frozen=True, slots=True)
class Stored:
    """A question of the table, with what a person reads. ``step_texts``: the texts of each branch's steps."""

    suite: str
    method: str
    number: int
    prompt: str
    gold: str
    responses: tuple[str, ...]
    step_texts: tuple[tuple[str, ...], ...]
    answered: Answered


class DecodedStore:
    """Stores the decoded questions of one evaluation. ``decode`` makes text of token ids, for people; only ids are read
    back. ``warn`` is called with parts that cannot be read; their questions are asked again."""

    def __init__(
        self,
        directory: str | Path,
        step: int,
        decode: Callable[[list[int]], str],
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        parts = evaluation_stem(directory, step).with_suffix(".decoded.parts")
        columns = QUESTION_COLUMNS | BRANCH_COLUMNS
        self._parts = Parts(parts, decoded_table(directory, step), columns, KEY, warn=warn)
        self._decode = decode

    def add(self, suite: str, method: str, number: int, example: Example, answered: Answered) -> None:
        """Adds a question that has ended, once. It stays in memory until :meth:`write_part` or :meth:`close`. Raises
        ValueError unless there is a branch, and an outcome for each."""
        decoded = answered.decoded
        if not decoded.branches or len(decoded.branches) != len(answered.outcomes):
            raise ValueError(f"{len(decoded.branches)} branches with {len(answered.outcomes)} outcomes")
        shared = {
            "suite": suite,
            "method": method,
            "number": number,
            "example_id": example.id,
            "prompt": self._prompt(example),
            "gold": example.gold,
            "answerable": answered.answerable,
            "rule": answered.rule,
            "confidence": decoded.confidence,
            "drawn": decoded.tokens,
            "rounds": decoded.rounds,
            "seconds": answered.seconds,
            "fact_names": list(decoded.facts),
            "fact_values": [float(value) for value in decoded.facts.values()],
        }
        self._parts.add([shared | row for row in self._branch_rows(answered)])

    def _branch_rows(self, answered: Answered) -> Iterator[dict[str, Any]]:
        for index, (branch, outcome) in enumerate(zip(answered.decoded.branches, answered.outcomes, strict=True)):
            ids, starts = list(branch.token_ids), (0, *branch.steps)
            yield {
                "branch": index,
                "path": branch.path,
                "parent": branch.parent,
                "own": branch.own,
                "response": self._decode(ids),
                "response_ids": ids,
                "steps": branch.steps,
                "step_texts": [self._decode(ids[a:b]) for a, b in zip(starts, branch.steps, strict=False)],
                "confidences": branch.confidences,
                "pruned": branch.pruned,
                "truncated": branch.truncated,
                "weight": branch.weight,
                "answer": branch.answer,
                "outcome": None if outcome is None else str(outcome),
                "elected": index == answered.decoded.winner,
            }

    def write_part(self) -> None:
        """Writes what was added since the last part to disk."""
        self._parts.write_part()

    def finished(self, suite: str, method: str, examples: Sequence[Example]) -> dict[int, Answered]:
        """Returns a method's questions of a suite that were on disk when the store was made, by their numbers, without
        tokens. Raises ValueError if they are other questions, or these with another prompt or gold answer."""
        found = {}
        for number, rows in sorted(self._earlier.get((suite, method), {}).items()):
            check_same(suite, number, rows[0], examples, self._prompt)
            found[number] = _answered(rows)
        return found

    @cached_property
    def _earlier(self) -> dict[tuple[str, str], dict[int, list[Mapping[str, Any]]]]:
        """The rows on disk by suite and method, then by number; without tokens."""
        found: dict[tuple[str, str], dict[int, list[Mapping[str, Any]]]] = {}
        columns = [name for name in (*QUESTION_COLUMNS, *BRANCH_COLUMNS) if name not in TOKENS]
        for row in self._parts.read(columns):
            found.setdefault((row["suite"], row["method"]), {}).setdefault(row["number"], []).append(row)
        return found

    def close(self) -> Path:
        """Writes the whole table, in the order in which suites and methods came, and removes the parts. Returns its
        path."""
        return self._parts.close()

    def _prompt(self, example: Example) -> str:
        return self._decode(list(example.prompt_ids))


def decoded_table(directory: str | Path, step: int) -> Path:
    return evaluation_stem(directory, step).with_suffix(".decoded.parquet")


def decoded_ids(directory: str | Path, step: int) -> list[str]:
    """Returns the ids of the questions that a finished evaluation decoded, each once. Empty where nothing was decoded,
    or the table cannot be read."""
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(decoded_table(directory, step), columns=["example_id"])
    except (OSError, ValueError):
        return []
    return list(dict.fromkeys(table.column("example_id").to_pylist()))


def read_decoded(directory: str | Path, step: int, example_id: str = "") -> list[Stored]:
    """Returns the decoded questions of a finished evaluation, suite by suite and method by method. ``example_id``: the
    only question that is read; '' for all. Empty where nothing was decoded, or the table cannot be read."""
    import pyarrow.parquet as pq

    wanted = [("example_id", "=", example_id)] if example_id else None
    try:
        rows: list[dict[str, Any]] = pq.read_table(decoded_table(directory, step), filters=wanted).to_pylist()
    except (OSError, ValueError):
        return []
    return [_stored(list(of)) for _, of in groupby(rows, lambda row: tuple(row[name] for name in KEY[:-1]))]


def by_method(found: Iterable[Stored]) -> dict[str, dict[str, list[Stored]]]:
    """Returns the questions by suite and method, in their order."""
    made: dict[str, dict[str, list[Stored]]] = {}
    for one in found:
        made.setdefault(one.suite, {}).setdefault(one.method, []).append(one)
    return made


def _stored(rows: Sequence[Mapping[str, Any]]) -> Stored:
    first = rows[0]
    return Stored(
        first["suite"],
        first["method"],
        first["number"],
        first["prompt"],
        first["gold"],
        tuple(row["response"] for row in rows),
        tuple(tuple(row["step_texts"]) for row in rows),
        _answered(rows),
    )


def _answered(rows: Sequence[Mapping[str, Any]]) -> Answered:
    rows = sorted(rows, key=lambda row: row["branch"])
    first = rows[0]
    decoded = Decoded(
        tuple(map(_branch, rows)),
        next((row["branch"] for row in rows if row["elected"]), -1),
        first["confidence"],
        first["drawn"],
        first["rounds"],
        dict(zip(first["fact_names"], first["fact_values"], strict=True)),
    )
    outcomes = tuple(None if row["outcome"] is None else Outcome(row["outcome"]) for row in rows)
    return Answered(first["example_id"], decoded, outcomes, first["rule"], first["seconds"], first["answerable"])


def _branch(row: Mapping[str, Any]) -> Branch:
    return Branch(
        tuple(row["path"]),
        tuple(row.get("response_ids", ())),
        row["own"],
        row["parent"],
        tuple(row["steps"]),
        tuple(row["confidences"]),
        row["pruned"],
        row["truncated"],
        row["weight"],
        row["answer"],
    )
