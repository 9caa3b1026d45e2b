"""Samples and grades the groups of a step, and computes their metrics.

An algorithm that drops groups without information (DAPO's dynamic sampling) draws more prompts into the running batch
of the engines. Engines work in rounds of a few tokens a sequence, of which two are kept queued: while the groups that
ended in one round are graded, the next is decoded. After every round it is decided how many more prompts to draw, from
the groups that have ended and from what is expected of those under way. Rounds are counted in tokens and not in
seconds, so that a run can be repeated. Nothing is cut off, and groups are taken in the order of their prompts: short
responses have no better chance of being trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from carerl.actors.crew import TrainingCrew
from carerl.algorithms import Algorithm
from carerl.config.schema import RunConfig
from carerl.controller.context import Context
from carerl.controller.decisions import decide
from carerl.controller.engine_queue import DEPTH, Ended, Rounds
from carerl.controller.preparation import stop_ids
from carerl.loss.batching import StepBatch, informative
from carerl.seeds import derived_seed
from carerl.tasks import ASKS_CONFIDENCE
from carerl.tasks.scoring import unstated_share
from carerl.types import Group, Outcome, Sample, Sampling

Phase = Callable[[str], AbstractContextManager[None]]

ROUNDS = 32  # rounds per response of full length; after each it is decided whether to draw more prompts
SHORTEST_ROUND = 4  # tokens; a round that takes no longer than its call leaves the engines waiting


@dataclass
class Rollouts:
    """Holds a step's groups. ``groups``: the batch that is trained on, as many as the step has prompts. ``generated``:
    all groups that were sampled for it, in the order of their prompts. ``missing``: how many groups of the batch the
    loss will drop, because the bound on draws was reached before replacements were found."""

    groups: list[Group]
    generated: list[Group]
    missing: int

    @property
    def tokens(self) -> int:
        """The number of response tokens in all groups that were sampled."""
        return sum(len(sample.response_ids) for sample in _samples(self.generated))


@dataclass(frozen=True)
class Source:
    """Says where groups come from.

    ``submit(first, n)`` queues the step's prompts ``first`` … ``first + n - 1``, counted from 0. ``advance()`` has the
    engines work a round; the function that it returns waits for the groups that ended in it. ``grade`` fills in
    outcomes and rewards.
    """

    submit: Callable[[int, int], None]
    advance: Callable[[], Callable[[], Ended]]
    grade: Callable[[list[Group]], list[Group]]


@dataclass(frozen=True)
class Quota:
    """Says how many groups a step takes (``wanted``) and how many prompts may be drawn for them.

    ``select``: True if groups without information are dropped. Then up to ``max_draws * wanted`` prompts are drawn in
    all, with at most ``room`` under way. False takes the first ``wanted`` groups as they are. ``expected``: the share
    of informative groups so far; it weighs as much as the groups of one step.
    """

    wanted: int
    expected: float
    room: int
    select: bool
    max_draws: int

    @property
    def limit(self) -> int:
        """The number of prompts that may be drawn."""
        return self.wanted * self.max_draws if self.select else self.wanted

    def more(self, drawn: int, under_way: int, good: int, rate: float) -> int:
        """Returns how many prompts to draw now, if ``good`` groups are informative and a share of ``rate`` of those
        under way is expected to be."""
        short = self.wanted - good - rate * under_way
        if short <= 0 or drawn >= self.limit:
            return 0
        replaces = self.limit > self.wanted
        # A single replacement would often lack information too, and the time of a whole response would be lost.
        few = math.ceil(self.wanted / 8) if replaces else 1
        n = max(few, math.ceil(short / max(rate, 1 / self.limit)))
        return max(0, min(n, self.limit - drawn, self.room - under_way if replaces else n))


def collect(source: Source, quota: Quota, phase: Phase) -> tuple[Rollouts, float]:
    """Draws, grades and selects the groups of a step. Returns them, and the share of informative groups to expect in
    the next step."""
    wanted = quota.wanted
    replaces = quota.limit > wanted
    rate = quota.expected if replaces else 1.0
    rounds = Rounds(source.advance, DEPTH if replaces else 1)
    ended: dict[int, Group] = {}
    good: dict[int, bool] = {}
    drawn = 0
    while True:
        if n := quota.more(drawn, drawn - len(ended), sum(good.values()), rate):
            source.submit(drawn, n)
            drawn += n
        if drawn > len(ended):
            rounds.fill()
        if not rounds:
            break
        with phase("generate"):
            part = rounds.wait()
        if part:
            with phase("reward"):
                part = dict(zip(part, source.grade(list(part.values())), strict=True))
            ended |= part
            informed = informative(list(part.values())).tolist() if quota.select else [True] * len(part)
            good |= dict(zip(part, informed, strict=True))
        if replaces:
            rate = (quota.expected * wanted + sum(good.values())) / (wanted + len(good))
    generated = [ended[number] for number in range(drawn)]
    taken = [ended[number] for number in range(drawn) if good[number]][:wanted]
    missing = wanted - len(taken)
    taken += [ended[number] for number in range(drawn) if not good[number]][:missing]
    return Rollouts(taken, generated, missing), rate


def roll_out(context: Context[TrainingCrew], algorithm: Algorithm, step: int, phase: Phase) -> Rollouts:
    """Samples and grades the groups of ``step``. Moves the data position, and updates the expected share of informative
    groups. ``phase`` times generating and grading. Raises GradingError."""
    config, task, crew, loop = context.config, context.task, context.crew, context.loop
    begin, sampling = loop.position, _sampling(config, step, stop_ids(config, task))
    generation = crew.engines.start(sampling)
    tokens = 0
    if algorithm.drop_uniform_groups and algorithm.max_draws > 1:
        tokens = max(SHORTEST_ROUND, math.ceil(sampling.max_new_tokens / ROUNDS))
    source = Source(
        lambda first, n: generation.submit(dict(enumerate(task.train_examples(begin + first, n), first))),
        lambda: generation.advance(tokens),  # 0: until all have ended, as nothing is decided on the way
        lambda groups: decide(
            crew, task, crew.graders.grade(groups, config.reward.internal), config.decision, config.coin_seed
        ),
    )
    quota = Quota(
        config.prompts_per_step,
        loop.informative,
        # Engine capacity plus a quarter of it, queued.
        room=max(1, 5 * config.rollout.actors * config.rollout.max_batch_rows // (4 * sampling.n)),
        select=algorithm.drop_uniform_groups,
        max_draws=algorithm.max_draws,
    )
    rollouts, loop.informative = collect(source, quota, phase)
    if warning := crew.graders.check(rollouts.generated, config.grading.max_invalid):
        context.display.message(f"step {step}: {warning}")
    loop.position = begin + len(rollouts.generated)
    return rollouts


def _sampling(config: RunConfig, step: int, ends: tuple[int, ...]) -> Sampling:
    """Returns the sampling settings of a step's rollouts. Their seed follows from run and step."""
    return Sampling(
        n=config.algorithm.group_size,
        temperature=config.rollout.temperature,
        max_new_tokens=config.rollout.max_new_tokens,
        seed=derived_seed(config.seed, step),
        top_p=config.rollout.top_p,
        top_k=config.rollout.top_k,
        stop_ids=ends,
    )


def _samples(groups: list[Group]) -> Iterator[Sample]:
    return (sample for group in groups for sample in group.samples)


def rollout_metrics(rollouts: Rollouts, planned: StepBatch) -> dict[str, float]:
    """Returns the step's ``rollout/…`` metrics.

    Means are over all samples, dropped or not: where groups are selected, accuracy over the batch would be near .5 for
    every policy. ``rollout/tokens`` counts rows that take part in the loss, ``rollout/generated_tokens`` all samples.
    ``rollout/unstated_fraction``: the share of responses that state no confidence, among those that were asked for one;
    absent if none was asked."""
    groups = rollouts.generated
    samples = list(_samples(groups))

    def share(outcome: Outcome) -> float:
        return sum(sample.outcome is outcome for sample in samples) / len(samples)

    asked = [sample for group in groups if group.example.meta.get(ASKS_CONFIDENCE) for sample in group.samples]
    unstated = {"rollout/unstated_fraction": unstated_share(asked)} if asked else {}
    return (
        unstated
        | _decision_metrics(samples)
        | {
            "rollout/reward": sum(sample.reward or 0.0 for sample in samples) / len(samples),
            "rollout/accuracy": sum(sample.correct for sample in samples) / len(samples),
            "rollout/response_length": rollouts.tokens / len(samples),
            "rollout/truncated_fraction": sum(sample.truncated for sample in samples) / len(samples),
            "rollout/unparsed_fraction": share(Outcome.UNPARSED),
            "rollout/invalid_fraction": share(Outcome.INVALID),
            "rollout/zero_variance_fraction": sum(
                len({sample.reward for sample in group.samples}) == 1 for group in groups
            )
            / len(groups),
            "rollout/informative_fraction": float(informative(groups).float().mean()),
            "rollout/groups": len(groups),
            "rollout/missing_groups": rollouts.missing,
            "rollout/tokens": int(planned.batch.response_lengths_B[planned.takes_part_B].sum()),
            "rollout/generated_tokens": rollouts.tokens,
        }
    )


def _decision_metrics(samples: Sequence[Sample]) -> dict[str, float]:
    """Returns how many samples have a decision, where any has one, and how many of these are not the likeliest option,
    where the engines were asked."""
    decided = [(sample.decision, sample) for sample in samples if sample.decision is not None]
    if not decided:
        return {}
    found = {
        "decision/found": len(decided) / len(samples),
        "decision/right": sum(decision.chosen in decision.right for decision, _ in decided) / len(decided),
    }
    weighed = [(decision.chosen, sample.likeliest) for decision, sample in decided if sample.likeliest is not None]
    if weighed:
        found["decision/unlikely"] = sum(chosen != likeliest for chosen, likeliest in weighed) / len(weighed)
        found["rollout/rewarded"] = sum(sample.rewarded for sample in samples) / len(samples)
    return found
