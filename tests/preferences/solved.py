"""Solutions written as words: ``a b* c`` is a response of three one-token steps."""

from __future__ import annotations

from collections.abc import Sequence

from carerl.preferences.records import Solution, Step
from carerl.types import Example, Outcome, Sample

EXAMPLE = Example("q", (90, 91), "")


def solved(
    steps: Sequence[tuple[Sequence[int], float | None, float]],
    outcome: Outcome | None = Outcome.WRONG,
    truncated: bool = False,
    prefix: int = 0,
    second: bool = False,
    example: Example = EXAMPLE,
) -> Solution:
    """``steps``: tokens, verdict and confidence of each."""
    ids, made = [], []
    for tokens, right, confidence in steps:
        made.append(Step(len(ids), len(ids) + len(tokens), confidence, 0.5, -1.0, right))
        ids += tokens
    sample = Sample(example.id, tuple(ids), (-1.0,) * len(ids), truncated, (0, 0), outcome=outcome)
    return Solution(example, sample, tuple(made), prefix, second)
