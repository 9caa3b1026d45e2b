"""Asks what a decision is made of: the question, or only the trace before it (arXiv 2601.13284).

The trace of an opposite example is put before a question's decision. The opposite example is a response to another
question of the suite whose trace concludes another option. If the decision then changes to what the foreign trace
concludes, and is as sure as before, the decision only reads off the trace: its probability says nothing of the
question. The paper finds 92 to 100 % of such flips after RLVR.

A query is the question's own prompt, then the foreign response up to its decision. The options are the question's own,
in the spelling that the foreign response uses there. Everything is at temperature 1.

[ours] The paper does not say how it draws the opposite example. Here it is drawn uniformly from all samples that can
be one, by a seed of its own for each sample: what else is asked, and a stop in between, change no pair.

[ours] What a trace concludes is its likeliest option, in the sample's own trace and in the foreign one, and not the
option that was sampled there. A calibrated decision is often sampled against its trace: with the sampled options, a
model that only copies its traces would show fewer flips than 1. So only samples whose options were weighed take part.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from carerl.actors.handles.engines import Engines
from carerl.backends.engines.base import Query
from carerl.calibration import Estimate, mean_interval, option_probability, share_interval
from carerl.config.schema import RunConfig
from carerl.seeds import derived_seed
from carerl.tasks import DecisionTask, Task, TextTask
from carerl.types import Decision, Example, Group, Sample

AT_A_TIME = 1024  # queries; an evaluation can be stopped after each such part
TRIES = 32  # draws of an opposite example, after which all that can be one are listed

Decided = tuple[Example, Sample]  # a sample with a decision, and its question


@dataclass(frozen=True, slots=True)
class Swap:
    """Puts the trace of ``other`` before the decision of ``example``. ``token_ids``: the question's options by label,
    in the spelling of that trace. ``own``: the likeliest option under the sample's own trace; ``foreign``: that of
    ``other``."""

    example: Example
    own: str
    other: Sample
    foreign: str
    token_ids: dict[str, int]

    @property
    def query(self) -> Query:
        assert self.other.decision is not None
        trace = self.other.response_ids[: self.other.decision.position]
        return Query((*self.example.prompt_ids, *trace), tuple(self.token_ids.values()))


def swap_traces(
    engines: Engines, config: RunConfig, task: Task, suite: str, groups: Sequence[Group], go_on: Callable[[], bool]
) -> dict[str, Estimate]:
    """Swaps the traces of a suite's graded samples, if ``evaluation.trace_swap`` is set, and asks the engines about
    each decision once more. Returns the metrics of :func:`swap_metrics` under their full names. There are none if no
    sample has a decision, or if ``go_on``, which is asked after each part, returns False. Nothing is being generated
    meanwhile."""
    if not config.evaluation.trace_swap or not isinstance(task, DecisionTask):
        return {}
    found = pairs(task, suite, groups, config.evaluation.seed)
    swaps = [swap for swap in found if swap is not None]
    asked: list[tuple[float, ...]] = []
    for start in range(0, len(swaps), AT_A_TIME):
        asked += engines.next_logprobs([swap.query for swap in swaps[start : start + AT_A_TIME]])
        if not go_on():
            return {}
    metrics = swap_metrics(swaps, asked, len(found) - len(swaps)) if found else {}
    return {f"eval/{suite}/{name}": estimate for name, estimate in metrics.items()}


def pairs(task: DecisionTask, suite: str, groups: Sequence[Group], seed: int) -> list[Swap | None]:
    """Returns the swap of each sample whose options' probabilities are known, in their order; None for a sample without
    an opposite example."""
    by_label: dict[str, list[Decided]] = {}
    for group in groups:
        for one in group.samples:
            if one.likeliest is not None:
                by_label.setdefault(one.likeliest, []).append((group.example, one))
    pools: dict[tuple[str, ...], list[Decided]] = {}  # those whose likeliest option is one of these labels
    found = []
    for group in groups:
        for index, one in enumerate(group.samples):
            if one.decision is None or one.likeliest is None:
                continue
            labels = tuple(label for label in one.decision.token_ids if label != one.likeliest)
            if labels not in pools:
                pools[labels] = [other for label in labels for other in by_label.get(label, ())]
            drawn = zlib.crc32(f"{suite} {index} {group.example.id}".encode())
            found.append(_draw(task, (group.example, one), pools[labels], derived_seed(seed, drawn)))
    return found


def _draw(task: DecisionTask, sample: Decided, pool: Sequence[Decided], seed: int) -> Swap | None:
    """Draws an opposite example of a sample, each of the pool that can be one with the same probability."""
    rng = random.Random(seed)
    for _ in range(TRIES if pool else 0):
        if (swap := _swap(task, *sample, *rng.choice(pool))) is not None:
            return swap
    possible = [swap for other in pool if (swap := _swap(task, *sample, *other)) is not None]
    return rng.choice(possible) if possible else None


def _swap(task: DecisionTask, example: Example, sample: Sample, other_example: Example, other: Sample) -> Swap | None:
    """Returns the swap of a sample with another response, whose likeliest option is another of its options. None if
    that response is to the same question, or in a spelling that the options do not have."""
    own, foreign = sample.likeliest, other.likeliest
    assert sample.decision is not None and other.decision is not None and own is not None and foreign is not None
    if other_example.id == example.id:
        return None
    options = _spelled(task, sample.decision, other.response_ids[other.decision.position], other.decision)
    if not {own, foreign} <= options.keys():
        return None
    return Swap(example, own, other, foreign, options)


def _spelled(task: DecisionTask, own: Decision, token: int, foreign: Decision) -> dict[str, int]:
    """Returns the tokens of a decision's own labels in the spelling of ``token``, the foreign decision. A task without
    spellings has the tokens of those labels that both decisions have."""
    if isinstance(task, TextTask):
        return task.spelling(token, foreign.chosen, tuple(own.token_ids))
    return {label: foreign.token_ids[label] for label in own.token_ids if label in foreign.token_ids}


def swap_metrics(swaps: Sequence[Swap], asked: Sequence[tuple[float, ...]], unpaired: int) -> dict[str, Estimate]:
    """Computes what swapped traces show; ``asked`` has the log-probs of each swap's options (nats).

    ``swap_flips``: share whose likeliest option is not the one under the own trace. ``swap_followed``: share whose
    likeliest option is that of the foreign trace. ``swap_probability``: mean probability of the likeliest
    option, among the options. Their intervals are over the questions; that several may share a foreign trace is left
    out. ``swap_unpaired``: samples with a decision, but without an opposite example.
    """
    questions, flips, followed, probability = [], [], [], []
    for swap, logprobs in zip(swaps, asked, strict=True):
        by_label = dict(zip(swap.token_ids, logprobs, strict=True))
        likeliest = max(by_label, key=lambda label: by_label[label])
        questions.append(swap.example.id)
        flips.append(float(likeliest != swap.own))
        followed.append(float(likeliest == swap.foreign))
        probability.append(option_probability(by_label, likeliest))
    found = {"swap_unpaired": Estimate(float(unpaired))}
    if not swaps:
        return found
    return {
        "swap_flips": share_interval(flips, questions),
        "swap_followed": share_interval(followed, questions),
        "swap_probability": mean_interval(probability, questions),
        **found,
    }
