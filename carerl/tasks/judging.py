"""Judges the responses to a batch of prompts: outcomes, votes, confidences and rewards.

A task of text is graded, and its answers are compared, in the processes of a :class:`~carerl.grading.pool.GraderPool`,
which end what takes too long or too much memory. Any other task grades token ids in this process.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

from carerl.calibration import answer_shares, verbalized_confidence, without_statement
from carerl.grading.pool import GraderPool, Job
from carerl.grading.votes import contested, merge
from carerl.rewards import Reward
from carerl.types import Group, Outcome, Sample

from .base import Task
from .coin_flips import toss
from .text import TextTask


class Judge:
    """Grades and rewards groups of one task.

    ``reward`` None: outcomes are all that is wanted, as in an evaluation, and rewards stay as they are. ``pool`` is
    needed for a :class:`~carerl.tasks.text.TextTask`. ``coin_seed`` replaces outcomes by tosses of a coin, as a
    rehearsal does (:mod:`~carerl.tasks.coin_flips`); None leaves them.
    """

    def __init__(
        self, task: Task, reward: Reward | None = None, pool: GraderPool | None = None, coin_seed: int | None = None
    ) -> None:
        self._task = task
        self._reward = reward
        self._pool = pool
        self._coin_seed = coin_seed
        self._raised = ""

    def judge(self, groups: list[Group], blind: bool = False) -> tuple[list[Group], str]:
        """Sets outcome, answer, confidences and reward of every sample, in place. Returns the groups, and the last
        failure in words ('' if there was none).

        A grader or reward that raises, or a reward that is not finite, makes its sample INVALID with reward 0 and
        affects no other sample. A sample that brings an ``argmax_outcome`` has it for its outcome. Equivalent answers
        of a group are the same string afterwards, so that votes can be counted without comparing anything.

        ``blind``: what is an answer, and which answers are equivalent, is decided without the gold answer, so that an
        internal reward cannot learn it from the votes. A task that is not of text reads answers so in any case."""
        self._raised = ""
        texts = self._read_texts(groups)
        if isinstance(self._task, TextTask):
            self._grade_texts(groups, texts, blind)
        else:
            self._grade_ids(groups)
        for sample in _samples(groups):
            if sample.argmax_outcome is not None:
                sample.outcome = sample.argmax_outcome
        if self._coin_seed is not None:
            toss(groups, self._coin_seed)
        for group in groups:
            shares = answer_shares([sample.answer for sample in group.samples])
            for sample, share in zip(group.samples, shares, strict=True):
                sample.confidence = share
                self._give_reward(sample, texts.get(id(sample), ""))
        return groups, self._raised

    def _read_texts(self, groups: list[Group]) -> dict[int, str]:
        """Returns the text of every sample of a text task, by the sample's ``id()``; sets the confidences that they
        state."""
        if not isinstance(self._task, TextTask):
            return {}
        found: dict[int, str] = {}
        for group in groups:
            for sample in group.samples:
                found[id(sample)] = text = self._task.response_text(sample.response_ids)
                sample.stated_confidence = verbalized_confidence(text)
        return found

    def _grade_texts(self, groups: list[Group], texts: dict[int, str], blind: bool) -> None:
        jobs = [
            Job(
                group.example.meta["grader"],
                without_statement(texts[id(sample)]),
                group.example.meta["gold"],
                sample.truncated,
            )
            for group in groups
            for sample in group.samples
        ]
        self._grade_jobs(groups, jobs)
        if blind:
            unseen = [replace(group, samples=[replace(sample) for sample in group.samples]) for group in groups]
            self._grade_jobs(unseen, [replace(job, gold=job.gold.without_answer()) for job in jobs])
            for sample, read in zip(_samples(groups), _samples(unseen), strict=True):
                sample.answer = read.answer

    def _grade_jobs(self, groups: list[Group], jobs: list[Job]) -> None:
        """Grades the samples of all groups, a job for each."""
        if self._pool is None:
            raise RuntimeError("a task of text is graded in the processes of a pool: give the judge one")
        for job, sample, graded in zip(jobs, _samples(groups), self._pool.grade_and_vote(jobs), strict=True):
            verdict = graded.verdict
            sample.outcome, sample.answer, sample.reason = verdict.outcome, graded.vote, verdict.reason
            sample.answerable = job.gold.answerable
            if verdict.reason:
                self._raised = f"{verdict.reason} (grading a response to {sample.example_id})"
        _merge_votes(groups, self._pool)

    def _grade_ids(self, groups: list[Group]) -> None:
        for group in groups:
            for sample in group.samples:
                try:
                    sample.outcome, sample.answer = self._task.grade(
                        group.example, sample.response_ids, sample.truncated
                    )
                except Exception as error:
                    self._fail(sample, error, "grading")

    def _give_reward(self, sample: Sample, text: str) -> None:
        if self._reward is None:
            return
        try:
            sample.reward = float(self._reward(sample, text))
            if not math.isfinite(sample.reward):
                raise ValueError(f"the reward is {sample.reward}")
        except Exception as error:
            self._fail(sample, error, "rewarding")
            sample.reward = 0.0

    def _fail(self, sample: Sample, error: Exception, doing: str) -> None:
        self._raised = f"{type(error).__name__}: {error} ({doing} a response to {sample.example_id})"
        sample.outcome, sample.answer, sample.reason = Outcome.INVALID, None, f"error: {type(error).__name__}: {error}"


def _samples(groups: list[Group]) -> Iterator[Sample]:
    return (sample for group in groups for sample in group.samples)


def _merge_votes(groups: list[Group], pool: GraderPool) -> None:
    """Gives one vote to the wrong answers of a group that mean the same.

    Every pair is compared, so that the verdict on a pair depends on nothing but the two answers. A group has
    ``COMPARED * (COMPARED - 1) / 2`` pairs at most."""
    forms = [
        contested(group.example.meta["grader"], [s.answer for s in group.samples], [s.outcome for s in group.samples])
        for group in groups
    ]
    pairs = [list(itertools.combinations(compared, 2)) for compared in forms]
    answers = iter(pool.compare([pair for asked in pairs for pair in asked]))
    for group, compared, asked in zip(groups, forms, pairs, strict=True):
        found = {pair: next(answers) for pair in asked}
        undecided = {form: answer.reason for pair, answer in found.items() if answer.reason for form in pair}
        equal = {pair for pair, answer in found.items() if answer.same}
        votes = merge([s.answer for s in group.samples], [s.outcome for s in group.samples], compared, equal)
        for sample, vote in zip(group.samples, votes, strict=True):
            if sample.outcome is Outcome.WRONG and sample.answer in undecided:
                sample.reason = f"not compared: {undecided[sample.answer]}"
            sample.answer = vote
