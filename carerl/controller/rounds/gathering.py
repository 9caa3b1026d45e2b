"""Gathers a round of preferences: responses, their judged steps, pairs, and the pairs' reference.

Everything is a function of the weights at the round's start, the settings and the round's seed. Questions are worked on
in blocks: their responses are on disk before they are judged, and each part of a block is there with its verdicts
before the next part is judged. No result depends on how they are cut. So a run that was stopped in a round goes on with
what is there, and ends with the same pairs.

The reference of a round is the policy at its start, which has not been updated yet: the learner scores all pairs before
its first optimizer step, and nobody holds a second copy of the weights. [ours] It is exact for every learner, with
adapters too, and the actors of the reference keep the weights that the run began with, from which evaluations measure
the divergence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from statistics import fmean

import torch
from torch import Tensor

from carerl.actors.crew import TrainingCrew
from carerl.backends.engines.base import Request
from carerl.config.judging import BLOCK, judges, questions_at_once
from carerl.config.reading.typed import plain
from carerl.config.schema import RunConfig
from carerl.controller import weights
from carerl.controller.context import Clock, Context
from carerl.controller.engine_queue import Rounds
from carerl.controller.grade_tally import GradeTally
from carerl.controller.preparation import stop_ids
from carerl.controller.rounds.labels import Workplace, label_of
from carerl.controller.rounds.scoring import PAIRS_AT_ONCE, pair_logprobs, solved, splitter_of, token_scores
from carerl.loss.parity import Gaps
from carerl.preferences.judges import agreement
from carerl.preferences.measures import round_metrics
from carerl.preferences.pairs import Bars, bars, pairs, runner_up
from carerl.preferences.records import Pair, Solution
from carerl.runs.rounds import ReferredPair, RoundStore, Solutions
from carerl.seeds import derived_seed
from carerl.types import Group, Sample, Sampling

LEARNING = ("beta", "nll_weight", "epochs", "pairs_per_update")  # settings that no sample, verdict or pair depends on
SAMPLE_STREAM, SECOND_STREAM, PAIR_STREAM, LABELS_STREAM = 11, 12, 13, 14  # of a round's seed
ROUNDS = 16  # of the engines per response of full length; after each, what ended is graded
SHORTEST_ROUND = 16  # tokens


@dataclass(frozen=True)
class Gathered:
    """Holds a round that is ready to be learned from: its pairs, and its counts. ``tokens``: of responses and
    continuations that were drawn since the run was last started."""

    pairs: list[ReferredPair]
    metrics: dict[str, float]
    tokens: int


class Gathering:
    """Gathers round ``number`` of a run, see the module's docstring. ``clock`` times the phases."""

    def __init__(self, context: Context[TrainingCrew], number: int, clock: Clock) -> None:
        config, task = context.config, context.task
        self._context, self._config, self._crew, self._task = context, config, context.crew, task
        self._clock, self._number = clock, number
        self._seed = derived_seed(config.seed, number)
        decode = context.tokenizer.decode
        self._store = RoundStore(context.run, number, drawn_with(config), decode, context.display.message)
        self._splitter = splitter_of(config, task, context.tokenizer) if config.preference.judged else None
        ends = stop_ids(config, task)
        seed = derived_seed(self._seed, LABELS_STREAM)
        self._tally = GradeTally(
            context.crew.graders,
            config.grading.max_invalid,
            lambda warning: context.display.message(f"round {number}: {warning}"),
        )
        place = Workplace(config, task, context.crew, decode, seed, ends, lambda: not context.stop, self._tally.add)
        self._tokens = 0
        self._ends, self._label = ends, label_of(place)
        # The first prompts of a run belong to the parity probe, as in RL.
        self._examples = task.train_examples(number * config.prompts_per_step, config.prompts_per_step)

    def gather(self) -> Gathered | None:
        """Returns the round; None if a stop was asked for before it was whole."""
        if (metrics := self._store.metrics) is None:
            if (found := self._solutions()) is None:
                return None
            self._tally.check()
            if (paired := self._paired(found)) is None:
                return None
            metrics = self._counts(found, paired)
            self._store.write_pairs(paired, metrics)
        return Gathered(self._store.read_pairs(), metrics, self._tokens)

    def _solutions(self) -> Solutions | None:
        """Returns all judged solutions of the round, in the order of the questions; None for a stop."""
        found = self._store.read(self._examples)
        if self._store.steps_file.is_file():
            return {k: found[k] for k in sorted(found)}
        waiting = self._store.read_drawn(self._examples)
        self._tally.add([Group(own[0].example, [one.sample for one in own]) for own in waiting.values()])
        first = {k: [one for one in own if not one.second] for k, own in waiting.items() if k not in found}
        left = [k for k in range(len(self._examples)) if k not in found and k not in first]
        for block in chain([list(first)], self._blocks(left)):
            fresh = first if block == list(first) else self._drawn(block)
            if fresh is None or (judged := self._judged(fresh, {})) is None:
                return None
            found |= judged
        return self._seconds(found, waiting)

    def _seconds(self, found: Solutions, waiting: Solutions) -> Solutions | None:
        """Returns solutions and judged continuations from second tokens; None for a stop. ``waiting``: what was drawn
        in an earlier part of the run, judged or not."""
        drawn = {k: [one for one in found[k] if not one.second] for k in sorted(found)}
        bar = bars([one for own in drawn.values() for one in own], self._config.preference)
        open_ = [k for k in drawn if len(drawn[k]) == len(found[k])]
        there = {k: [one for one in waiting.get(k, []) if one.second] for k in open_}
        there = {k: own for k, own in there.items() if own}
        for block in chain([list(there)], self._blocks([k for k in open_ if k not in there])):
            fresh = there if block == list(there) else self._second(block, drawn, bar)
            if fresh is None or (judged := self._judged(fresh, drawn)) is None:
                return None
            found |= {k: drawn[k] + judged[k] for k in judged}
        self._store.close_steps()
        return {k: found[k] for k in sorted(found)}

    def _blocks(self, questions: Sequence[int]) -> Iterator[list[int]]:
        """Yields the questions in blocks that fill the engines, and shows how far it is."""
        r, p = self._config.rollout, self._config.preference
        size = max(1, BLOCK * r.actors * r.max_batch_rows // p.samples)
        for start in range(0, len(questions), size):
            yield list(questions[start : start + size])
            done = min(start + size, len(questions))
            self._context.display.progress(done, len(questions), f"questions of round {self._number}")

    def _drawn(self, block: Sequence[int]) -> Solutions | None:
        """Draws, grades, scores and stores the responses to some questions; None for a stop."""
        groups = self._responses(block)
        if groups is None:
            return None
        drawn = [(k, sample) for k in block for sample in groups[k].samples if sample.response_ids]
        return self._kept(self._solved(block, drawn, ()), {})

    def _responses(self, block: Sequence[int]) -> dict[int, Group] | None:
        """Samples and grades responses; what ended in one round of the engines is graded while the next is decoded."""
        r, p = self._config.rollout, self._config.preference
        seed = derived_seed(self._seed, SAMPLE_STREAM)
        generation = self._crew.engines.start(
            Sampling(p.samples, r.temperature, r.max_new_tokens, seed, r.top_p, r.top_k, self._ends)
        )
        generation.submit({k: self._examples[k] for k in block})
        tokens = max(SHORTEST_ROUND, math.ceil(r.max_new_tokens / ROUNDS))
        rounds = Rounds(lambda: generation.advance(tokens))
        ended: dict[int, Group] = {}
        while generation.open:
            rounds.fill()
            with self._clock.phase("generate"):
                part = rounds.wait()
            if part:
                with self._clock.phase("reward"):
                    ended |= dict(zip(part, self._crew.graders.grade(list(part.values())), strict=True))
            if self._context.stop:
                rounds.drop()
                generation.cancel()
                return None
        rounds.drop()
        self._tally.add(list(ended.values()))
        return ended

    def _second(self, block: Sequence[int], drawn: Solutions, bar: Bars) -> Solutions | None:
        """Asks for continuations from the second most probable token beside right and unsure steps of some questions;
        grades, scores and stores them; None for a stop."""
        with self._clock.phase("second"):
            given = self._given(block, drawn, bar)
            samples = self._continued(given)
        if samples is None:
            return None
        groups = {k: Group(self._examples[k], own) for k, own in samples.items() if own}
        with self._clock.phase("reward"):
            graded = dict(zip(groups, self._crew.graders.grade(list(groups.values())), strict=True)) if groups else {}
        self._tally.add(list(graded.values()))
        continued = [(k, sample) for k, group in graded.items() for sample in group.samples]
        prefixes = [len(ids) for k in graded for ids in given[k]]
        return self._kept(self._solved(block, continued, prefixes), drawn)

    def _given(self, block: Sequence[int], drawn: Solutions, bar: Bars) -> dict[int, list[tuple[int, ...]]]:
        """Returns what each question's continuations begin with: a prefix of right steps and the second most probable
        token. One that ends the response is left out: it would be the end of the step before it, and no step."""
        forks = [(k, fork) for k in block for fork in runner_up(drawn[k], bar, self._config.preference)]
        places = [self._examples[k].prompt_ids + fork.prefix_ids for k, fork in forks]
        likeliest = self._crew.engines.likeliest(places) if places else []
        given: dict[int, list[tuple[int, ...]]] = {k: [] for k in block}
        for (k, fork), found in zip(forks, likeliest, strict=True):
            ids = fork.given(dict(found))
            if ids is not None and ids[-1] not in self._ends and len(ids) <= self._config.rollout.max_new_tokens:
                given[k].append(ids)
        return given

    def _continued(self, given: dict[int, list[tuple[int, ...]]]) -> dict[int, list[Sample]] | None:
        """Has the engines go on from what is given. What is at the length limit is left as it is."""
        r = self._config.rollout
        seed = derived_seed(self._seed, SECOND_STREAM)
        asked = [
            (k, number, ids)
            for k, own in given.items()
            for number, ids in enumerate(own)
            if len(ids) < r.max_new_tokens
        ]
        requests = [
            Request(
                index,
                self._examples[k].prompt_ids + ids,
                seed=derived_seed(derived_seed(seed, k), number),
                max_new_tokens=r.max_new_tokens - len(ids),
            )
            for index, (k, number, ids) in enumerate(asked)
        ]
        sampling = Sampling(1, r.temperature, r.max_new_tokens, seed, stop_ids=self._ends)
        found = self._crew.engines.complete(requests, sampling, lambda: not self._context.stop, [k for k, *_ in asked])
        if len(found) < len(requests):
            return None
        version = self._crew.engines.version
        samples = {
            k: [Sample(self._examples[k].id, ids, (), True, (version, version)) for ids in own]
            for k, own in given.items()
        }
        for (k, number, ids), (one,) in zip(asked, found, strict=True):
            samples[k][number] = Sample(self._examples[k].id, ids + one.token_ids, (), one.truncated, one.versions)
        return samples

    def _solved(
        self, block: Sequence[int], samples: Sequence[tuple[int, Sample]], prefixes: Sequence[int]
    ) -> Solutions:
        """Has the learner score responses, and cuts them into steps; returns them by the number of their question. Of
        those that were drawn freely, compares the engines' log-probs with the learner's. Raises MismatchError."""
        found: Solutions = {k: [] for k in block}
        if not samples:
            return found
        # A graded group comes from another process, with an example of its own.
        responses = [(self._examples[k], sample) for k, sample in samples]
        with self._clock.phase("score"):
            scores = token_scores(self._crew.learner, responses, self._config.rollout.temperature)
            solutions = solved(responses, scores, self._splitter, self._task.vocab_size, prefixes)
            if not prefixes:
                solutions = self._compared(solutions, scores["logprobs"])
        for (k, _), one in zip(samples, solutions, strict=True):
            # the engine's log-probs have been compared, and nothing else reads them
            found[k].append(replace(one, sample=replace(one.sample, rollout_logprobs=())))
        return found

    def _compared(self, solutions: Sequence[Solution], logprobs_BT: Tensor) -> list[Solution]:
        """Returns solutions with how far the engine's log-probs are from the learner's. Raises MismatchError."""
        gaps, compared = Gaps(), []
        for row, one in enumerate(solutions):
            sample = one.sample
            own = logprobs_BT[row, : len(sample.response_ids)] - torch.tensor(sample.rollout_logprobs)
            gaps.add(own)
            far = own.double().abs()
            compared.append(replace(one, gap_mean=float(far.mean()), gap_max=float(far.max())))
        found = gaps.statistics()
        names = ("rollout/mismatch_mean", "rollout/mismatch_q999", "rollout/mismatch_max")
        metrics = dict(zip(names, (found.mean, found.q999, found.largest), strict=True))
        weights.check_rollouts(self._number, metrics, self._config)
        return compared

    def _judged(self, solutions: Solutions, known: Solutions) -> Solutions | None:
        """Judges solutions, a few questions at a time, and stores them; None for a stop. ``known``: the responses to
        these questions that come before them."""
        found: Solutions = {}
        questions, size = list(solutions), questions_at_once(self._config)
        for start in range(0, len(questions), size):
            part = questions[start : start + size]
            with self._clock.phase("judge"):
                judged = self._label.judge({k: solutions[k] for k in part if solutions[k]}, known)
            if judged is None:
                return None
            for k, own in judged.items():
                self._store.add(k, len(known.get(k, [])), own)
            self._store.write_part()
            found |= {k: judged.get(k, []) for k in part}
        return found

    def _kept(self, solutions: Solutions, known: Solutions) -> Solutions:
        """Stores solutions that wait for their verdicts, and returns them."""
        self._tokens += sum(len(one.sample.response_ids) - one.prefix for own in solutions.values() for one in own)
        self._store.write_drawn(solutions, {k: len(own) for k, own in known.items()})
        return solutions

    def _paired(self, solutions: Solutions) -> list[ReferredPair] | None:
        """Pairs the solutions to each question, and has the learner score the pairs; None for a stop."""
        p, seed = self._config.preference, derived_seed(self._seed, PAIR_STREAM)
        bar = bars([one for own in solutions.values() for one in own if not one.second], p)
        made: list[tuple[int, Pair]] = []
        for k, own in solutions.items():
            made += [(k, pair) for pair in pairs(own, bar, p, derived_seed(seed, k))]
        found: list[ReferredPair] = []
        for start in range(0, len(made), PAIRS_AT_ONCE):
            if self._context.stop:
                return None
            part = made[start : start + PAIRS_AT_ONCE]
            with self._clock.phase("score"):
                scores = pair_logprobs(self._crew.learner, [pair for _, pair in part], self._config.rollout.temperature)
            found += [ReferredPair(k, pair, *own) for (k, pair), own in zip(part, scores, strict=True)]
        return found

    def _counts(self, solutions: Solutions, paired: Sequence[ReferredPair]) -> dict[str, float]:
        """Returns the counts of a round, as metrics: of what is stored, and so the same after a stop."""
        all_of = [one for own in solutions.values() for one in own]
        steps = [step for one in all_of for step in one.steps if step.end > one.prefix]
        verdicts = [step.right for step in steps if step.right is not None]
        metrics: dict[str, float] = {
            "round/pairs": len(paired),
            "round/second_pairs": sum(found.pair.rule == "second" for found in paired),
            "round/paired_questions": len({found.question for found in paired}) / len(self._examples),
            "round/responses": len(all_of),
            "round/tokens": sum(len(one.sample.response_ids) - one.prefix for one in all_of),
            "round/unjudged": sum(all(step.right is None for step in one.steps) for one in all_of)
            / max(1, len(all_of)),
            "round/steps": len(steps),
            "round/judged": len(verdicts) / max(1, len(steps)),
        }
        if verdicts:
            metrics["round/right"] = fmean(verdicts)
        if steps:
            metrics["round/confidence"] = fmean(step.confidence for step in steps)
        if tokens := sum(one.judge_tokens for one in all_of):
            metrics["round/judge_tokens"] = tokens
        if (agreed := agreement(all_of)) is not None:
            metrics["round/judge_agreement"] = agreed
        return metrics | _gaps(all_of) | round_metrics([one for one in all_of if not one.second], self._task.vocab_size)


def _gaps(solutions: Sequence[Solution]) -> dict[str, float]:
    """Returns how far the engines' log-probs of a round's free responses are from the learner's. All gaps are finite:
    others have ended the run."""
    known = [(len(one.sample.response_ids), one.gap_mean, one.gap_max) for one in solutions]
    found = [(tokens, mean, largest) for tokens, mean, largest in known if mean is not None and largest is not None]
    if not found:
        return {}
    return {
        "rollout/mismatch_mean": math.fsum(n * mean for n, mean, _ in found) / sum(n for n, *_ in found),
        "rollout/mismatch_max": max(largest for *_, largest in found),
    }


JUDGE = (
    "path",
    "revision",
    "dtype",
    "engine",
    "temperature",
    "max_new_tokens",
    "max_model_len",
)  # what verdicts hang on


def drawn_with(config: RunConfig) -> dict[str, object]:
    """Returns the settings that what a round draws, judges and pairs depends on."""
    own = {name: value for name, value in plain(config.preference).items() if name not in LEARNING}
    r = config.rollout
    drawn = {"temperature": r.temperature, "max_new_tokens": r.max_new_tokens, "end_ids": r.end_ids}
    found = {"preference": own, "prompts_per_step": config.prompts_per_step, "seed": config.seed, "rollout": drawn}
    return found | ({"judge": {name: getattr(config.judge, name) for name in JUDGE}} if judges(config) else {})
