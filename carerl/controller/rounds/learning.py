"""Learns from the pairs of a round: optimizer steps of DPO with an anchor (:mod:`carerl.loss.preferred`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import torch

from carerl.actors.handles.learner import Learner
from carerl.config.schema import RunConfig
from carerl.controller.rounds.scoring import PAIRS_AT_ONCE, pair_logprobs
from carerl.loss.batching import StepBatch
from carerl.loss.preferred import plan_preferred, with_preferences
from carerl.preferences.pairs import dealt
from carerl.preferences.records import Pair
from carerl.runs.rounds import ReferredPair
from carerl.seeds import derived_seed

DEAL_STREAM = 15  # of a round's seed
Update = Callable[[StepBatch, float, bool], Mapping[str, float]]
"""Takes one optimizer step: what is planned, how much of the round is done by then in (0, 1], and whether it is the
first. Returns metrics."""


def learn(
    learner: Learner,
    config: RunConfig,
    number: int,
    found: Sequence[ReferredPair],
    update: Update,
    go_on: Callable[[], bool],
) -> dict[str, float] | None:
    """Takes the optimizer steps of round ``number`` over its pairs. Each is scored under the weights as they are, then
    weighted, then updated from. Returns the means of their metrics, and what became of the pairs; None if a stop was
    asked for before the last one. A round without pairs takes none."""
    p, temperature = config.preference, config.rollout.temperature
    reference = {own.pair: own for own in found}
    steps = dealt(list(reference), p, derived_seed(derived_seed(config.seed, number), DEAL_STREAM)) if found else []
    seen: defaultdict[str, list[float]] = defaultdict(list)
    for k, pairs in enumerate(steps):
        planned = plan_preferred(pairs, temperature)
        held = learner.hold(planned.batch, planned.minibatches)
        policy_BT = learner.log_probs(held)["logprobs"]
        reference_BT = torch.zeros_like(policy_BT)
        for row, logprobs in enumerate(ids for pair in pairs for ids in _both(reference[pair])):
            reference_BT[row, : len(logprobs)] = torch.tensor(logprobs)
        weighted, metrics = with_preferences(planned, policy_BT, reference_BT, p.beta, p.nll_weight)
        measured = {**metrics, **update(weighted, (k + 1) / len(steps), k == 0)}
        measured["train/loss"] = measured["preference/loss"]
        del measured["train/ce_loss"]  # its gradient is that of preference/loss, its value says nothing
        for name, value in measured.items():
            seen[name].append(value)
        if k + 1 < len(steps) and not go_on():  # after the last one nothing would be saved
            return None
    means = {name: fmean(values) for name, values in seen.items()}
    return means | {"round/updates": float(len(steps))} | _ended(learner, list(reference.values()), temperature)


def _both(found: ReferredPair) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return found.chosen, found.rejected


def _ended(learner: Learner, found: Sequence[ReferredPair], temperature: float) -> dict[str, float]:
    """Returns what the round's pairs were before its first step, and what they are after its last one."""
    if not found:
        return {}
    pairs: list[Pair] = [own.pair for own in found]
    after = [
        scores
        for start in range(0, len(pairs), PAIRS_AT_ONCE)
        for scores in pair_logprobs(learner, pairs[start : start + PAIRS_AT_ONCE], temperature)
    ]
    before = [tuple(map(sum, _both(own))) for own in found]
    later = [tuple(map(sum, scores)) for scores in after]
    risen = [new[0] - old[0] > new[1] - old[1] for old, new in zip(before, later, strict=True)]
    return {
        "round/chosen_logprob_start": fmean(chosen for chosen, _ in before),
        "round/rejected_logprob_start": fmean(rejected for _, rejected in before),
        "round/chosen_logprob_end": fmean(chosen for chosen, _ in later),
        "round/rejected_logprob_end": fmean(rejected for _, rejected in later),
        "round/accuracy_end": fmean(risen),
    }
