"""The steps of a tiny response, and which of them are right.

``<C|D> d0 r1 r2 .. rk A rk <eos>`` has k + 1 steps: ``<C|D> d0 r1``, then each further result, then ``A rk <eos>``.

[ours] The method token is a step with the first result. A step of its own would always be right, whichever method it
names: exact labels could not teach the careful one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from carerl.records.splitting import Walker
from carerl.types import Example

from . import tokenizer as tk
from .world import solve

FIRST = 3  # tokens of the first step


@dataclass(frozen=True)
class TinySplitter:
    """Cuts a tiny response into steps; a :class:`carerl.records.splitting.Splitter`."""

    def walk(self) -> Walker:
        """Returns a walker: a step ends after the third token, after each further one, and from the first ``A`` on
        only after ``<eos>``."""
        seen = 0
        answering = False

        def ends(token: int) -> bool:
            nonlocal seen, answering
            seen += 1
            answering = answering or token == tk.ANSWER
            return token == tk.EOS or (not answering and seen >= FIRST)

        return ends

    def split(self, token_ids: Sequence[int]) -> tuple[int, ...]:
        """Returns where each step ends (exclusive); the last one ends with the response."""
        walk = self.walk()
        ends = {position + 1 for position, token in enumerate(token_ids) if walk(token)}
        return tuple(sorted(ends | {len(token_ids)} - {0}))


def step_labels(example: Example, response_ids: Sequence[int]) -> tuple[bool | None, ...]:
    """Returns a label for each step: True if its result is right. None after the first wrong step, for a step that was
    cut, and for all steps of a response to a name, which has no chain.

    A first step is right with either method token, the start and the first result. An answer is right if it is the true
    last result and ``<eos>`` follows; "?" is not. [ours] It comes after all k results: an earlier one is a guess, which
    the grader allows.
    """
    ids, splitter = tuple(response_ids), TinySplitter()
    ends = splitter.split(ids)
    if example.prompt_ids[0] not in (tk.QUESTION, tk.TEXTBOOK):
        return (None,) * len(ends)
    start, *operators = example.prompt_ids[1:-1]
    chain = solve(np.array([start - tk.DIGIT]), np.array([operators]) - tk.OPERATOR)[0]
    results = [tk.DIGIT + int(result) for result in chain]
    right: list[tuple[tuple[int, ...], ...]] = [
        tuple((method, start, results[0]) for method in (tk.CAREFUL, tk.SLOPPY)),
        *(((result,),) for result in results[1:]),
        ((tk.ANSWER, results[-1], tk.EOS),),
    ]
    walk = splitter.walk()
    complete = [walk(token) for token in ids]  # at the end of a step: False if the length limit cut it
    labels: list[bool | None] = []
    for number, (begin, end) in enumerate(zip((0, *ends), ends, strict=False)):
        judged = all(labels) and complete[end - 1]
        labels.append(number < len(right) and ids[begin:end] in right[number] if judged else None)
    return tuple(labels)
