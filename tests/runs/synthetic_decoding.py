"""Decoded questions made from nothing, with few branches, so that all can be counted by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from carerl.inference.base import Branch, Decoded
from carerl.runs.decoded import Answered, DecodedStore
from carerl.runs.decoding import measures, metrics_and_intervals
from carerl.runs.tables import evaluation_stem
from carerl.types import Example, Outcome

GOLD = "7"


def vote(answers: Sequence[str | None], name: str = "q0", own: int = 10, seconds: float = 0.5) -> Answered:
    """A question whose branches gave these answers, each of ``own`` tokens, elected by plain majority."""
    branches = tuple(
        Branch((k,), tuple(range(own)), own, steps=(own // 2, own), confidences=(0.9, 0.4), answer=answer)
        for k, answer in enumerate(answers)
    )
    counts = Counter(answer for answer in answers if answer is not None)
    winner = answers.index(counts.most_common(1)[0][0]) if counts else -1
    share = max(counts.values(), default=0) / len(answers)
    decoded = Decoded(branches, winner, share, own * len(answers), 1)
    return Answered(name, decoded, tuple(map(_outcome, answers)), "vote", seconds)


def tree(name: str = "q0", answer: str = GOLD) -> Answered:
    """A question of CaT's: of two branches one is pruned, and the other is forked after its first step."""
    ids = tuple(range(10))
    branches = (
        Branch((0,), ids, 10, -1, (4, 10), (0.875, 0.75), weight=0.8125, answer=answer),
        Branch((1,), ids[:4], 4, -1, (4,), (0.125,), pruned=True, weight=0.125),
        Branch((0, 1), (*ids[:4], 90, 91), 2, 0, (4, 6), (0.875, 0.25), truncated=True, weight=0.5),
    )
    decoded = Decoded(branches, 0, 1.0, 16, 2, {"threshold": 0.25})
    return Answered(name, decoded, (_outcome(answer), None, Outcome.TRUNCATED), "vote", 0.25)


def _outcome(answer: str | None) -> Outcome:
    return Outcome.UNPARSED if answer is None else Outcome.CORRECT if answer == GOLD else Outcome.WRONG


def add_decoded(
    run: Path, found: Mapping[str, Mapping[str, Sequence[Answered]]], text: str = "token", prompt: str = "Ask"
) -> None:
    """Writes decoded questions beside an evaluation, and their figures into its record. ``found``: suite -> method ->
    questions; ``text``: of every token."""

    def decode(ids: list[int]) -> str:
        return prompt if ids == [0] else " ".join(f"{text}{k}" for k in ids)

    store = DecodedStore(run / "evaluations", 0, decode)
    for suite, methods in found.items():
        for method, questions in methods.items():
            for number, one in enumerate(questions):
                store.add(suite, method, number, Example(one.example_id, (0,), GOLD), one)
    store.close()
    values, bounds = metrics_and_intervals(measures(found))
    path = evaluation_stem(run / "evaluations", 0).with_suffix(".json")
    record = json.loads(path.read_text())
    record["metrics"] |= values
    record["intervals"] |= bounds
    path.write_text(json.dumps(record))
