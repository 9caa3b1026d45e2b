"""The rollouts of a step: as many groups as it takes, graded, and what they come to.

Under an algorithm that replaces groups without information (DAPO's dynamic sampling) prompts are drawn in waves, two at
first, each half of what is expected to suffice. Two are kept queued at the engines as long as they are not expected to
fill the batch: the engines go on with one while the other is graded, and how many more are needed is decided as late as
that allows. It follows from outcomes in the order of the prompts and not from when they come in, so that a run can be
repeated. A refill is a quarter of a step at least, as a wave takes as long as its longest response. Groups are taken in
the order of their prompts: short responses have no better chance of being trained on.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from carerl.algorithms import Algorithm
from carerl.algorithms.batching import informative, rows_with_weight
from carerl.backends.engines import request_seed
from carerl.config.schema import RunConfig
from carerl.controller.context import Context
from carerl.types import Group, Outcome, Sample, Sampling, TokenBatch

Wait = Callable[[], list[Group]]
Phase = Callable[[str], AbstractContextManager[None]]


@dataclass
class Rollouts:
    """``groups``: the step's batch, as many as it has prompts. ``generated``: all that were sampled for it, in the
    order of their prompts; ``waves``: in how many calls. ``missing``: groups of the batch that are dropped from the
    loss, as the bound on draws came before others in their place."""

    groups: list[Group]
    generated: list[Group]
    waves: int
    missing: int

    @property
    def tokens(self) -> int:
        """Response tokens of all that was sampled."""
        return sum(len(sample.response_ids) for sample in _samples(self.generated))


def collect(
    start: Callable[[int, int], Wait],
    grade: Callable[[list[Group]], list[Group]],
    wanted: int,
    expected: float,
    phase: Phase,
    *,
    select: bool,
    max_draws: int,
) -> tuple[Rollouts, float]:
    """The groups of a step, and the share of informative ones to expect in the next.

    ``start(first, n)`` queues the n prompts after the step's first ``first`` ones. ``select``: groups without
    information are dropped, and at most ``max_draws * wanted`` prompts drawn to have others in their place; otherwise
    the first ``wanted`` groups are taken as they are. ``expected``: the share of informative groups so far; it is held
    with the weight of a step's groups against those of this one.
    """
    limit = wanted * max_draws if select else wanted
    size, floor = wanted, 1
    if limit > wanted:
        size, floor = math.ceil(min(limit, wanted / max(expected, 1 / limit)) / 2), math.ceil(wanted / 4)
    waves: deque[tuple[int, Wait]] = deque()
    generated: list[Group] = []
    good: list[bool] = []
    drawn, started, rate = 0, 0, expected if limit > wanted else 1.0
    while True:
        while len(waves) < 2 and drawn < limit:
            open_ = wanted - sum(good) - rate * sum(n for n, _ in waves)
            if open_ <= 0:
                break
            n = min(size, limit - drawn, max(floor, math.ceil(open_ / max(rate, 1 / limit))))
            waves.append((n, start(drawn, n)))
            drawn, started = drawn + n, started + 1
        if not waves:
            break
        with phase("generate"):
            groups = waves.popleft()[1]()
        with phase("reward"):
            groups = grade(groups)
        generated += groups
        good += informative(groups).tolist() if select else [True] * len(groups)
        if limit > wanted:
            rate = (expected * wanted + sum(good)) / (wanted + len(good))
    taken = [group for group, is_good in zip(generated, good, strict=True) if is_good][:wanted]
    missing = wanted - len(taken)
    taken += [group for group, is_good in zip(generated, good, strict=True) if not is_good][:missing]
    return Rollouts(taken, generated, started, missing), rate


def roll_out(context: Context, algorithm: Algorithm, step: int, phase: Phase) -> Rollouts:
    """Samples and grades a step's groups, and moves the data position and the expected share of informative ones."""
    config, task, crew, loop = context.config, context.task, context.crew, context.loop
    assert crew.rollout is not None and crew.grading is not None
    rollout, begin = crew.rollout, loop.position
    sampling = _sampling(config, step, task.stop_ids)

    def start(first: int, n: int) -> Wait:
        return rollout.start(task.train_examples(begin + first, n), replace(sampling, first_request=first))

    rollouts, loop.informative = collect(
        start,
        crew.grading.grade,
        config.prompts_per_step,
        loop.informative,
        phase,
        select=algorithm.drop_uniform_groups,
        max_draws=algorithm.max_draws,
    )
    crew.grading.check(rollouts.generated)
    loop.position = begin + len(rollouts.generated)
    return rollouts


def _sampling(config: RunConfig, step: int, stop_ids: tuple[int, ...]) -> Sampling:
    return Sampling(
        n=config.algorithm.group_size,
        temperature=config.rollout.temperature,
        max_new_tokens=config.rollout.max_new_tokens,
        seed=request_seed(config.seed, step),
        top_p=config.rollout.top_p,
        top_k=config.rollout.top_k,
        stop_ids=stop_ids,
    )


def _samples(groups: list[Group]) -> Iterator[Sample]:
    return (sample for group in groups for sample in group.samples)


def rollout_metrics(rollouts: Rollouts, batch: TokenBatch) -> dict[str, float]:
    """Means are over all that was sampled, thrown away or not: those over what is trained on would say .5 for every
    policy where groups are selected. ``rollout/tokens``: of rows that take part in the loss;
    ``rollout/generated_tokens``: of all that was sampled."""
    groups = rollouts.generated
    samples = list(_samples(groups))

    def share(outcome: Outcome) -> float:
        return sum(sample.outcome is outcome for sample in samples) / len(samples)

    return {
        "rollout/reward": sum(sample.reward or 0.0 for sample in samples) / len(samples),
        "rollout/accuracy": share(Outcome.CORRECT),
        "rollout/response_length": rollouts.tokens / len(samples),
        "rollout/truncated_fraction": sum(sample.truncated for sample in samples) / len(samples),
        "rollout/unparsed_fraction": share(Outcome.UNPARSED),
        "rollout/invalid_fraction": share(Outcome.INVALID),
        "rollout/zero_variance_fraction": sum(len({sample.reward for sample in group.samples}) == 1 for group in groups)
        / len(groups),
        "rollout/informative_fraction": float(informative(groups).float().mean()),
        "rollout/groups": len(groups),
        "rollout/waves": rollouts.waves,
        "rollout/missing_groups": rollouts.missing,
        "rollout/tokens": int(batch.response_lengths_B[rows_with_weight(batch)].sum()),
        "rollout/generated_tokens": rollouts.tokens,
    }


def rollout_rows(
    decode: Callable[[list[int]], str], step: int, rollouts: Rollouts, batch: TokenBatch
) -> list[dict[str, Any]]:
    """One dict for each sample, as the rollout tables hold them; what takes no part in the loss has no advantage."""
    assert batch.advantages_BT is not None
    first_row = {id(group): k * len(group.samples) for k, group in enumerate(rollouts.groups)}
    takes_part = rows_with_weight(batch).tolist()
    rows: list[dict[str, Any]] = []
    for group in rollouts.generated:
        first = first_row.get(id(group))
        for number, sample in enumerate(group.samples):
            trained = first is not None and takes_part[first + number]
            length = len(sample.response_ids)
            rows.append(
                {
                    "step": step,
                    "example_id": sample.example_id,
                    "sample": number,
                    "prompt": decode(list(group.example.prompt_ids)),
                    "response": decode(list(sample.response_ids)),
                    "gold": group.example.gold,
                    "answer": sample.answer,
                    "outcome": str(sample.outcome),
                    "correct": sample.correct,
                    "reward": sample.reward,
                    "advantage": float(batch.advantages_BT[first + number, 0])
                    if trained and first is not None
                    else None,
                    "trained": trained,
                    "confidence": sample.confidence,
                    "tokens": length,
                    "mean_logprob": sum(sample.rollout_logprobs) / length if length else None,
                    "weight_version": sample.weight_version,
                }
            )
    return rows
