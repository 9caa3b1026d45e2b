"""The actor that grades: loads a task, its reward and its grader processes, and judges groups of samples."""

from __future__ import annotations

from carerl.actors.workers.base import Worker
from carerl.config.schema import RunConfig
from carerl.grading import Verdict
from carerl.grading.pool import GraderPool, Job
from carerl.rewards import REWARDS
from carerl.tasks import TASKS, TextTask
from carerl.tasks.judging import Judge
from carerl.types import Group


class GraderWorker(Worker):
    """Holds a :class:`~carerl.tasks.judging.Judge`, and for a task of text the processes that it grades in."""

    def __init__(self) -> None:
        self._judge: Judge
        self._pool: GraderPool | None = None

    def load(self, config: RunConfig, model_dir: str) -> None:
        """Makes the judge of a run, in place of an earlier run's."""
        from carerl.backends.hub import model_files
        from carerl.backends.models import load_tokenizer

        self.begin(config)
        task = TASKS[config.task.name].build(config.task, config.seed)
        if task.needs_tokenizer:  # a task with a tokenizer of its own saves seven seconds of imports
            files = model_files(model_dir, config.model.revision)
            task.attach(load_tokenizer(files, config.model.trust_remote_code))
        # An evaluation has no reward, and an internal one is none of a single response: outcomes alone are wanted.
        build = REWARDS[config.reward.name].build if config.reward is not None else None
        reward = build(config.reward) if build is not None else None
        if self._pool is not None:
            self._pool.close()
        settings = config.grading
        text = isinstance(task, TextTask)
        self._pool = GraderPool(settings.processes, settings.seconds, settings.memory_mib) if text else None
        self._judge = Judge(task, reward, self._pool, config.coin_seed)

    def grade(self, groups: list[Group], blind: bool = False) -> tuple[list[Group], str]:
        """Judges every sample, see :meth:`~carerl.tasks.judging.Judge.judge`."""
        return self._judge.judge(groups, blind)

    def verdicts(self, jobs: list[Job]) -> list[Verdict]:
        """Grades texts that nobody trains on, such as variants of a response, under the pool's limits."""
        assert self._pool is not None, "a task of text"
        return self._pool.grade(jobs)
