"""The actor that grades: it turns responses into outcomes, answers, confidences and rewards."""

from __future__ import annotations

import itertools
import math
from typing import Any

from carerl.actors.workers.base import Worker
from carerl.calibration import answer_shares, verbalized_confidence, without_statement
from carerl.config.schema import RunConfig
from carerl.grading import Verdict
from carerl.grading.pool import GraderPool, Job
from carerl.grading.votes import contested, merge
from carerl.rewards import REWARDS, Reward
from carerl.tasks import TASKS, Task, TextTask
from carerl.tasks.coin_flips import toss
from carerl.types import Group, Outcome, Sample


class GraderWorker(Worker):
    """Grades responses and turns outcomes into rewards. Grades text, and compares answers, in separate processes that
    can be killed."""

    def __init__(self) -> None:
        self._task: Task
        self._reward: Reward | None = None
        self._pool: GraderPool | None = None
        self._raised = ""
        self._coin_seed: int | None = None  # of a rehearsal

    def load(self, config: RunConfig, model_dir: str) -> None:
        """Makes task, reward and, for a task of text, the pool of grading processes."""
        from carerl.backends.hub import model_files
        from carerl.backends.models import load_tokenizer

        self.begin(config)
        self._coin_seed = config.seed if config.rehearse else None
        self._task = TASKS[config.task.name].build(config.task, config.seed)
        if self._task.needs_tokenizer:  # a task of its own words is spared seven seconds of imports
            files = model_files(model_dir, config.model.revision)
            self._task.attach(load_tokenizer(files, config.model.trust_remote_code))
        # An evaluation of a model has no reward: it needs outcomes alone.
        self._reward = REWARDS[config.reward.name].build(config.reward) if config.reward is not None else None
        if self._pool is not None:
            self._pool.close()
        settings = config.grading
        text = isinstance(self._task, TextTask)
        self._pool = GraderPool(settings.processes, settings.seconds, settings.memory_mib) if text else None

    def grade(self, groups: list[Group]) -> tuple[list[Group], str]:
        """Sets outcome, answer, confidences and reward of every sample. A sample is invalid, with reward 0, if its
        grader or reward raises or the reward is not finite. Returns the groups, and the last error in words or ''.

        Gives equivalent answers of a group the same text, so that whoever counts votes can compare texts."""
        self._raised = ""
        texts = self._texts(groups)
        if self._pool is not None:
            self._grade_texts(groups, texts, self._pool)
        else:
            self._grade_ids(groups)
        if self._coin_seed is not None:
            toss(groups, self._coin_seed)
        for group in groups:
            shares = answer_shares([sample.answer for sample in group.samples])
            for sample, share in zip(group.samples, shares, strict=True):
                sample.confidence = share
                self._give_reward(sample, texts.get(id(sample), ""))
        return groups, self._raised

    def verdicts(self, jobs: list[Job]) -> list[Verdict]:
        """Returns verdicts alone, under the pool's limits: for variants of a response, which nobody trains on."""
        assert self._pool is not None, "a task of text"
        return self._pool.grade(jobs)

    def _texts(self, groups: list[Group]) -> dict[int, str]:
        """Returns the text of every sample by the sample's ``id()``, for a task of text, and reads stated confidences
        from it; empty for any other task."""
        if not isinstance(self._task, TextTask):
            return {}
        found: dict[int, str] = {}
        for group in groups:
            for sample in group.samples:
                found[id(sample)] = text = self._task.response_text(sample.response_ids)
                sample.stated_confidence = verbalized_confidence(text)
        return found

    def _grade_texts(self, groups: list[Group], texts: dict[int, str], pool: GraderPool) -> None:
        """Grades a task of text."""
        assert isinstance(self._task, TextTask)
        pairs = [(group.example, sample) for group in groups for sample in group.samples]
        jobs = [
            Job(example.meta["grader"], without_statement(texts[id(sample)]), example.meta["gold"], sample.truncated)
            for example, sample in pairs
        ]
        for (example, sample), graded in zip(pairs, pool.grade_and_vote(jobs), strict=True):
            verdict = graded.verdict
            sample.outcome, sample.answer, sample.reason = verdict.outcome, graded.vote, verdict.reason
            sample.answerable = example.meta["gold"].answerable
            if verdict.reason:
                self._raised = f"{verdict.reason} (grading a response to {sample.example_id})"
        _merge_votes(groups, pool)

    def _grade_ids(self, groups: list[Group]) -> None:
        """Grades a task that reads token ids itself."""
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

    def _fail(self, sample: Sample, error: Any, doing: str) -> None:
        self._raised = f"{type(error).__name__}: {error} ({doing} a response to {sample.example_id})"
        sample.outcome, sample.answer, sample.reason = Outcome.INVALID, None, f"error: {type(error).__name__}: {error}"


def _merge_votes(groups: list[Group], pool: GraderPool) -> None:
    """Merges the votes of wrong answers of a group that mean the same. Compares every pair, so that the result for two
    answers depends on nothing else; a group has ``COMPARED * (COMPARED - 1) / 2`` pairs at most."""
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
