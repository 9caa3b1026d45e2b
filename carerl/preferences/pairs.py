"""Makes pairs of the judged steps of responses to one question.

A *fork* is a place where a response can go on in several ways, after whole steps that are all right. What was drawn
there are its candidates, each a whole step. With ``unit=response`` a candidate is all that was drawn of a response, and
the grader says whether it is right.

1. [ours] A step that was drawn several times after the same prefix is one candidate. Its verdict and its confidence are
   the means of theirs.
2. [ours] The forks of a question take turns: first the best pair of each, then the second best.
3. [ours] Confidences are compared to six decimals: one-token siblings have the same confidence but for rounding.
4. [ours] A step that the length limit cut is in no pair. A whole response that it cut can be rejected.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from carerl.preferences.config import PreferenceConfig
from carerl.preferences.records import Pair, Solution
from carerl.seeds import derived_seed
from carerl.types import Outcome

Ids = tuple[int, ...]
DECIMALS = 6  # to which confidences are compared; entropies are float32


@dataclass(frozen=True, slots=True)
class Bars:
    """The confidences that part unsure from sure in a round. ``unsure``: a right step at or below it is unsure.
    ``sure``: a wrong step at or above it is sure."""

    unsure: float = -math.inf
    sure: float = math.inf


@dataclass(frozen=True, slots=True)
class RunnerUp:
    """A fork at which a step is wanted that begins with the second most probable token.

    ``prefix_ids``: the tokens of the response up to there. ``first_ids``: with which its right and unsure steps begin.
    """

    prefix_ids: Ids
    first_ids: Ids

    def given(self, logprobs: Mapping[int, float]) -> Ids | None:
        """Returns the prefix and the second most probable token after it: what a continuation is asked for.

        ``logprobs``: at least the two most probable next tokens. Of equally probable ones the lower id comes first.
        None where all right and unsure steps begin with that token themselves: it would be no alternative.
        Raises ValueError for fewer than two tokens.
        """
        if len(logprobs) < 2:
            raise ValueError(f"{len(logprobs)} next tokens have no second most probable one")
        second = sorted(logprobs, key=lambda token: (-logprobs[token], token))[1]
        return None if set(self.first_ids) == {second} else (*self.prefix_ids, second)


@dataclass(slots=True)
class _Candidate:
    """Holds what was drawn at a fork. ``drawn``: freely. ``asked``: as a continuation from the second most probable
    token."""

    ids: Ids
    verdicts: list[float] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    asked: bool = False
    drawn: bool = False

    @property
    def right(self) -> float | None:
        return fmean(self.verdicts) if self.verdicts else None

    @property
    def confidence(self) -> float:
        return round(fmean(self.confidences), DECIMALS)


@dataclass(slots=True)
class _Fork:
    """The right and the rejectable candidates after a prefix."""

    prefix: Ids
    right: list[_Candidate]
    wrong: list[_Candidate]


def bars(solutions: Sequence[Solution], config: PreferenceConfig) -> Bars:
    """Returns the bars of a round from the candidates of all its questions. Without right steps none is unsure, and
    without wrong ones none sure."""
    questions: defaultdict[str, list[Solution]] = defaultdict(list)
    for solution in solutions:
        questions[solution.example.id].append(solution)
    forks = [fork for question in questions.values() for fork in _forks(question, config)]
    right = [candidate.confidence for fork in forks for candidate in fork.right]
    wrong = [candidate.confidence for fork in forks for candidate in fork.wrong]
    return Bars(
        float(np.quantile(right, config.unsure, method="inverted_cdf")) if right else -math.inf,
        -float(np.quantile(np.negative(wrong), config.sure, method="inverted_cdf")) if wrong else math.inf,
    )


def runner_up(solutions: Sequence[Solution], bars: Bars, config: PreferenceConfig) -> list[RunnerUp]:
    """Returns the forks of one question with a right but unsure step, in the order of their tokens. Empty where the
    settings ask for no such continuations (:attr:`PreferenceConfig.asks_second`)."""
    if not config.asks_second:
        return []
    found = []
    for fork in _forks(solutions, config):
        firsts = {candidate.ids[0] for candidate in fork.right if candidate.confidence <= bars.unsure}
        if firsts:
            found.append(RunnerUp(fork.prefix, tuple(sorted(firsts))))
    return found


def pairs(solutions: Sequence[Solution], bars: Bars, config: PreferenceConfig, seed: int) -> list[Pair]:
    """Makes the pairs of one question, the best first, at most ``config.pairs_per_question``, none twice.

    The best pair is one of an unsure right step and a sure wrong one; among such ones, that in which the wrong step is
    more confident than the right one by most. ``seed``: of the question. It decides between equal ones. The order of
    the solutions does not matter. Raises ValueError for solutions of several questions or without an outcome, and for
    a confidence that is not finite.
    """
    if len({solution.example.id for solution in solutions}) > 1:
        raise ValueError("pairs are made of the solutions to one question, and there are several")
    prompt = solutions[0].example.prompt_ids if solutions else ()
    ranked = []
    for number, fork in enumerate(_forks(solutions, config)):
        order = random.Random(derived_seed(seed, number))
        found = [(_rank(c, r, bars, config), order.random(), c, r) for c, r in _contrasts(fork, bars, config)]
        if config.confidence == "only":
            found = [pair for pair in found if pair[0][0] == 0]
        found.sort(key=lambda pair: pair[:2])
        ranked += [((turn, *pair[:2]), fork.prefix, *pair[2:]) for turn, pair in enumerate(found)]
    ranked.sort(key=lambda pair: pair[0])
    return [_pair(solutions[0].example.id, prompt, *pair[1:], config) for pair in ranked[: config.pairs_per_question]]


def dealt(pairs: Sequence[Pair], config: PreferenceConfig, seed: int) -> list[list[Pair]]:
    """Deals the pairs of a round to its optimizer steps: each pair once an epoch, at most ``config.pairs_per_update``
    a step, as evenly as can be. ``seed``: of the round. Every epoch has an order of its own."""
    updates = math.ceil(len(pairs) / config.pairs_per_update)
    found = []
    for epoch in range(config.epochs):
        order = list(pairs)
        random.Random(derived_seed(seed, epoch)).shuffle(order)
        found += [order[number::updates] for number in range(updates)]
    return found


def _forks(solutions: Sequence[Solution], config: PreferenceConfig) -> list[_Fork]:
    """Returns the forks of one question, in the order of their tokens, that right steps alone lead to."""
    places = _drawn_steps(solutions) if config.unit == "step" else _drawn_responses(solutions)
    reached = [()] if config.unit == "step" else list(places)
    found = []
    while reached:
        prefix = reached.pop()
        candidates = [places[prefix][ids] for ids in sorted(places.get(prefix, {}))]
        right = [c for c in candidates if c.right is not None and c.right >= config.right_from]
        wrong = [c for c in candidates if _is_wrong(c, config)]
        if config.unit == "step":
            reached += [prefix + c.ids for c in right]
        if config.second == "always":
            right = [c for c in right if not c.asked]
            wrong += [c for c in candidates if c.asked and c not in wrong]
        found.append(_Fork(prefix, right, wrong))
    return sorted(found, key=lambda fork: fork.prefix)


def _drawn_steps(solutions: Sequence[Solution]) -> dict[Ids, dict[Ids, _Candidate]]:
    """Returns the candidates after each prefix: whole steps."""
    found: dict[Ids, dict[Ids, _Candidate]] = {}
    for solution in solutions:
        response = solution.sample.response_ids
        for step in solution.steps:
            if solution.sample.truncated and step.end == len(response):
                continue
            asked = solution.second and step.start == solution.prefix - 1
            _add(found, response[: step.start], response[step.start : step.end], step.right, step.confidence, asked)
    return found


def _drawn_responses(solutions: Sequence[Solution]) -> dict[Ids, dict[Ids, _Candidate]]:
    """Returns the candidates after each prefix that was given: whole responses, but for that prefix."""
    found: dict[Ids, dict[Ids, _Candidate]] = {}
    for solution in solutions:
        sample = solution.sample
        if sample.outcome is None:
            raise ValueError(f"a response to {sample.example_id} has not been graded")
        own = [step for step in solution.steps if step.end > solution.prefix]
        if sample.outcome is Outcome.INVALID or not own:
            continue
        tokens = [step.end - max(step.start, solution.prefix) for step in own]
        mean = sum(n * step.confidence for n, step in zip(tokens, own, strict=True)) / sum(tokens)
        given, drawn = sample.response_ids[: solution.prefix], sample.response_ids[solution.prefix :]
        _add(found, given, drawn, float(sample.correct), mean, asked=False)
    return found


def _add(
    places: dict[Ids, dict[Ids, _Candidate]], prefix: Ids, ids: Ids, right: float | None, confidence: float, asked: bool
) -> None:
    """Adds one thing that was drawn to its candidate."""
    if not math.isfinite(confidence):
        raise ValueError(f"a step's confidence is {confidence}")
    candidate = places.setdefault(prefix, {}).setdefault(ids, _Candidate(ids))
    candidate.confidences.append(confidence)
    candidate.verdicts += [] if right is None else [right]
    candidate.asked |= asked
    candidate.drawn |= not asked


def _contrasts(fork: _Fork, bars: Bars, config: PreferenceConfig) -> Iterator[tuple[_Candidate, _Candidate]]:
    """Yields each right candidate with each one that may be rejected for it."""
    for chosen in fork.right:
        for rejected in fork.wrong:
            if _is_wrong(rejected, config) or (
                chosen.confidence <= bars.unsure and chosen.ids[0] != rejected.ids[0]  # else it is the same token
            ):
                yield chosen, rejected


def _rank(chosen: _Candidate, rejected: _Candidate, bars: Bars, config: PreferenceConfig) -> tuple[int, float]:
    """Returns how many of the two are not as wanted, and by how much the chosen one is more confident than the
    rejected. A rejected step that was asked for is wanted whatever its confidence is."""
    if config.confidence == "off":
        return 0, 0.0
    unsure = chosen.confidence <= bars.unsure
    sure = rejected.confidence >= bars.sure or _rule(rejected, config) == "second"
    return 2 - unsure - sure, round(chosen.confidence - rejected.confidence, DECIMALS)


def _is_wrong(candidate: _Candidate, config: PreferenceConfig) -> bool:
    return candidate.right is not None and candidate.right <= config.wrong_to


def _rule(rejected: _Candidate, config: PreferenceConfig) -> str:
    """Returns why a candidate is rejected: ``second`` if it was never drawn freely, or is not judged wrong."""
    drawn_wrong = rejected.drawn and _is_wrong(rejected, config)
    return "second" if rejected.asked and not drawn_wrong else "wrong"


def _pair(
    example_id: str, prompt: Ids, prefix: Ids, chosen: _Candidate, rejected: _Candidate, config: PreferenceConfig
) -> Pair:
    return Pair(
        example_id=example_id,
        prompt_ids=prompt + prefix,
        shared=len(prefix),
        chosen_ids=chosen.ids,
        rejected_ids=rejected.ids,
        rule=_rule(rejected, config),
        chosen_confidence=chosen.confidence,
        rejected_confidence=rejected.confidence,
    )
