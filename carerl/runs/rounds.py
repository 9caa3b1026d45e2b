"""Keeps what a round of preferences has drawn, judged and paired: ``rounds/01/`` for the first step of a run.

=================  ============================================================================
file               what it is
=================  ============================================================================
``steps.parquet``  a row for each step of each response: :data:`STEP_COLUMNS`
``pairs.parquet``  a row for each pair of steps: :data:`PAIR_COLUMNS`
``round.json``     the settings that the round was drawn with, and its counts (``metrics``)
=================  ============================================================================

While a round is under way the steps lie in parts: those of responses that wait for their verdicts in ``drawn.parts/``,
judged ones in ``steps.parts/``. A run that was stopped in it goes on with what is there. The order of the files says
how far it has come: steps, then pairs, then the counts in ``round.json``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from carerl.preferences.records import Pair, Solution, Step
from carerl.runs.directory import RunDirectory
from carerl.runs.files import finite, read_json, write_text
from carerl.runs.parts import Parts, check_same
from carerl.runs.tables import arrow_type, write_parquet
from carerl.types import Example, Outcome, Sample

FORMAT = 1
STEP_COLUMNS: dict[str, str] = {
    "question": "int64",  # its number in the round, from which its seeds follow
    "response": "int64",  # its number among those to the question: drawn freely first, then those asked for
    "step": "int64",
    "example_id": "string",
    "prompt": "string",
    "gold": "string",
    "prefix": "int64",  # how many of the response's first tokens were given to the engine; 0: drawn freely
    "second": "bool",  # the last given token is the second most probable one, and was asked for
    "outcome": "string",  # of the response, as those that follow
    "answer": "string",
    "answerable": "bool",
    "truncated": "bool",
    "weight_version": "int64",
    "start": "int64",  # the step's place among the response's tokens; end is exclusive
    "end": "int64",
    "token_ids": "list<int32>",  # of the step: those of all steps are the response
    "text": "string",
    "confidence": "float64",  # 1 - mean token entropy / log V, of the policy that drew it, temperature included
    "peak": "float64",  # mean probability of the likeliest token
    "logprob": "float64",  # sum over the step's tokens, nats
    "right": "float64",  # the verdict, 0 to 1: a share where completions judge; null: none
    "review": "string",  # of the response, as those that follow: what a second model wrote of it; null: nothing
    "judge_tokens": "int64",  # of the review, or of completions; those of a place are the first response's that has it
    "gap_mean": "float64",  # of |engine - learner| of a token's log-prob, nats; null: a continuation
    "gap_max": "float64",
}
PAIR_COLUMNS: dict[str, str] = {
    "question": "int64",
    "pair": "int64",  # its number among those of the question
    "example_id": "string",
    "prompt": "string",  # the question's prompt and the prefix that both steps share
    "chosen": "string",
    "rejected": "string",
    "rule": "string",  # wrong: the rejected step is judged wrong; second: it begins with the second most probable token
    "chosen_confidence": "float64",
    "rejected_confidence": "float64",
    "shared": "int64",  # tokens of the prefix: the last ones of prompt_ids
    "prompt_ids": "list<int32>",
    "chosen_ids": "list<int32>",
    "rejected_ids": "list<int32>",
    "chosen_reference": "list<float>",  # log-prob of each token under the round's reference, nats
    "rejected_reference": "list<float>",
}

OF_SOLUTION = ("review", "judge_tokens", "gap_mean", "gap_max")  # columns that are a solution's fields
Solutions = dict[int, list[Solution]]  # by the number of the question, in the order of their responses


@dataclass(frozen=True, slots=True)
class ReferredPair:
    """A pair of a round with its reference: the log-prob of each token of both steps, nats. ``question``: its number in
    the round."""

    question: int
    pair: Pair
    chosen: tuple[float, ...]
    rejected: tuple[float, ...]


class RoundStore:
    """Stores one round. ``number``: that of the run's step, from 1. ``settings``: those that the round is drawn with;
    what was drawn with others is removed. ``decode`` makes text of token ids, for people; only ids are read back.
    ``say`` is called with what a person should know."""

    def __init__(
        self,
        run: RunDirectory,
        number: int,
        settings: Mapping[str, Any],
        decode: Callable[[list[int]], str],
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.folder = run.round_dir(number)
        self._decode = decode
        self._record = {"format": FORMAT, "round": number, "settings": finite(settings)}
        there = read_json(self.folder / "round.json")
        if there is None or any(there.get(name) != value for name, value in self._record.items()):
            if there is not None:
                say(f"round {number} was begun with other settings: it is drawn again")
            shutil.rmtree(self.folder, ignore_errors=True)
            self._write_record(self._record)
        key = ("question", "response", "step")
        self._parts = Parts(self.folder / "steps.parts", self.steps_file, STEP_COLUMNS, key, warn=say)
        # they never become a table
        self._drawn = Parts(self._drawn_folder, self.folder / "drawn.parquet", STEP_COLUMNS, key, warn=say)

    @property
    def steps_file(self) -> Path:
        """The table of all steps, once all are judged."""
        return self.folder / "steps.parquet"

    @property
    def _drawn_folder(self) -> Path:
        return self.folder / "drawn.parts"

    @property
    def pairs_file(self) -> Path:
        return self.folder / "pairs.parquet"

    @property
    def metrics(self) -> dict[str, float] | None:
        """The counts of a round whose pairs are all there; None before."""
        found = (read_json(self.folder / "round.json") or {}).get("metrics")
        return found if self.pairs_file.is_file() else None

    def write_drawn(self, solutions: Solutions, first: Mapping[int, int]) -> None:
        """Writes solutions that have not been judged to disk. ``first``: the number of each question's first one among
        its responses, 0 where it is not named."""
        for question, own in solutions.items():
            for k, one in enumerate(own, first.get(question, 0)):
                self._drawn.add(self._step_rows(question, k, one))
        self._drawn.write_part()

    def add(self, question: int, first: int, solutions: Sequence[Solution]) -> None:
        """Adds judged solutions to a question. ``first``: the number of the first one among its responses. They stay in
        memory until :meth:`write_part` or :meth:`close_steps`."""
        self._parts.add(row for k, one in enumerate(solutions, first) for row in self._step_rows(question, k, one))

    def write_part(self) -> None:
        """Writes what was added to disk."""
        self._parts.write_part()

    def close_steps(self) -> None:
        """Writes the whole table of steps, and removes all parts."""
        if not self.steps_file.is_file():
            self._parts.close()
        shutil.rmtree(self._drawn_folder, ignore_errors=True)

    def read(self, examples: Sequence[Example]) -> Solutions:
        """Returns the judged solutions on disk. ``examples``: the questions of the round. Raises ValueError if a
        question, its prompt or its gold answer is another one."""
        return self._solutions(self._parts, examples)

    def read_drawn(self, examples: Sequence[Example]) -> Solutions:
        """Returns what :meth:`write_drawn` wrote, judged since or not. Raises ValueError as :meth:`read` does."""
        return self._solutions(self._drawn, examples)

    def _solutions(self, parts: Parts, examples: Sequence[Example]) -> Solutions:
        rows = sorted(parts.read(), key=lambda row: (row["question"], row["response"], row["step"]))
        found: Solutions = {}
        for (question, _), steps in groupby(rows, key=lambda row: (row["question"], row["response"])):
            own = list(steps)
            if question not in found:
                check_same("the round", question, own[0], examples, lambda e: self._decode(list(e.prompt_ids)))
            found.setdefault(question, []).append(_solution(examples[question], own))
        return found

    def write_pairs(self, pairs: Sequence[ReferredPair], metrics: Mapping[str, float]) -> None:
        """Writes the pairs of the round, in their order, and its counts."""
        import pyarrow as pa

        rows = list(self._pair_rows(pairs))
        columns = {name: pa.array([row[name] for row in rows], arrow_type(kind)) for name, kind in PAIR_COLUMNS.items()}
        write_parquet(self.pairs_file, pa.table(columns))
        self._write_record(self._record | {"metrics": finite(metrics)})

    def read_pairs(self) -> list[ReferredPair]:
        """Returns the pairs, in their order."""
        import pyarrow.parquet as pq

        return [_pair(row) for row in pq.read_table(self.pairs_file).to_pylist()]

    def _write_record(self, record: Mapping[str, Any]) -> None:
        write_text(self.folder / "round.json", json.dumps(record, indent=2) + "\n")

    def _step_rows(self, question: int, response: int, solution: Solution) -> Iterator[dict[str, Any]]:
        example, sample = solution.example, solution.sample
        of_response = {
            "question": question,
            "response": response,
            "example_id": example.id,
            "prompt": self._decode(list(example.prompt_ids)),
            "gold": example.gold,
            "prefix": solution.prefix,
            "second": solution.second,
            "outcome": None if sample.outcome is None else str(sample.outcome),
            "answer": sample.answer,
            "answerable": sample.answerable,
            "truncated": sample.truncated,
            "weight_version": sample.weight_version,
            **{name: getattr(solution, name) for name in OF_SOLUTION},
        }
        for number, step in enumerate(solution.steps):
            ids = list(sample.response_ids[step.start : step.end])
            own = {name: getattr(step, name) for name in Step.__dataclass_fields__}
            yield of_response | own | {"step": number, "token_ids": ids, "text": self._decode(ids)}

    def _pair_rows(self, pairs: Sequence[ReferredPair]) -> Iterator[dict[str, Any]]:
        for question, own in groupby(pairs, key=lambda pair: pair.question):
            for number, found in enumerate(own):
                pair = found.pair
                texts = {"prompt": pair.prompt_ids, "chosen": pair.chosen_ids, "rejected": pair.rejected_ids}
                yield (
                    {name: getattr(pair, name) for name in Pair.__dataclass_fields__}
                    | {name: self._decode(list(ids)) for name, ids in texts.items()}
                    | {"question": question, "pair": number}
                    | {"chosen_reference": found.chosen, "rejected_reference": found.rejected}
                )


def _solution(example: Example, rows: Sequence[Mapping[str, Any]]) -> Solution:
    """Makes a solution of the rows of its steps."""
    first = rows[0]
    sample = Sample(
        example.id,
        tuple(token for row in rows for token in row["token_ids"]),
        (),  # the engine's log-probs: the steps have the learner's
        first["truncated"],
        (first["weight_version"], first["weight_version"]),
        None if first["outcome"] is None else Outcome(first["outcome"]),
        first["answer"],
        answerable=first["answerable"],
    )
    steps = tuple(Step(**{name: row[name] for name in Step.__dataclass_fields__}) for row in rows)
    return Solution(
        example, sample, steps, first["prefix"], first["second"], **{name: first[name] for name in OF_SOLUTION}
    )


def _pair(row: Mapping[str, Any]) -> ReferredPair:
    fields = ((name, row[name]) for name in Pair.__dataclass_fields__)
    plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields}
    return ReferredPair(
        row["question"], Pair(**plain), tuple(row["chosen_reference"]), tuple(row["rejected_reference"])
    )


def forget_rounds(run: RunDirectory, step: int) -> None:
    """Removes the rounds after the one that follows ``step``. That one began with the weights after ``step``, so it
    holds for a run that goes on from there."""
    for path in run.rounds.glob("*"):
        if path.name.isdigit() and int(path.name) > step + 1:
            shutil.rmtree(path)
