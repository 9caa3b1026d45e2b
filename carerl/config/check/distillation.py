"""Checks distillation and internal rewards: that the rest of a run suits them, and that no gold answer reaches one."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from carerl.algorithms import ALGORITHMS
from carerl.config.reading.compose import read_yaml
from carerl.config.reading.typed import convert
from carerl.config.schema import RunConfig
from carerl.errors import ConfigError
from carerl.grading.places import POLICIES
from carerl.grading.pool import GraderPool
from carerl.settings import Errors
from carerl.tasks import Task
from carerl.tasks.base import AnswersTask, SplitsSteps, TracesTask
from carerl.tasks.benchmarks.config import TextConfig
from carerl.tasks.text import TextTask


def distillation_pairings(c: RunConfig) -> Errors:
    """Yields an error for fewer traces than optimizer steps, for a file of traces that is not there, for decisions that
    are trained too, and for solutions to choose where nothing learns any."""
    d = c.distillation
    if isinstance(c.task, TextConfig) and c.task.teach != TextConfig.teach and not (c.taught or d.learns):
        reason = "nothing would read it: it says what is learned of a row, and this run learns no solutions"
        remedy = "leave it out, or write kind=finetune, or distillation.name=mixture"
        yield ConfigError("task.teach", c.task.teach, reason, remedy)
    if not d.on or c.algorithm is None:
        return
    if c.decision.trains:
        yield ConfigError(
            "decision.name",
            c.decision.name,
            f"distillation.name={d.name} learns traces by cross-entropy, and decisions are trained by the same term",
            "write decision.name=none, or distillation.name=none",
        )
    if d.learns and d.per_step < c.algorithm.minibatches:
        yield ConfigError(
            "distillation.per_step",
            d.per_step,
            f"a step has {c.algorithm.minibatches} optimizer steps, and some would have no trace",
            f"write distillation.per_step={c.algorithm.minibatches} or more",
        )
    if d.learns and d.traces:
        yield from _file(d.traces, c.dry_run)


def _file(path: str, plan: bool) -> Errors:
    """Refuses a file of traces by its name, and one that is not there unless it is only for a ``plan``, which reads
    none."""
    reason = ""
    if not path.endswith(".jsonl"):
        reason = "traces are the rows of a .jsonl file"
    elif not plan and not os.path.isfile(path):
        reason = "it is a directory" if os.path.isdir(path) else "there is no such file"
    if reason:
        remedy = "give a .jsonl file with question and solution in every row, or leave it out for the task's solutions"
        yield ConfigError("distillation.traces", path, reason, remedy)


def distillation_faults(task: Task, config: RunConfig) -> Errors:
    """Yields an error for a task without traces to learn, or whose answers cannot be found in its responses; and for
    traces of which none is right and short enough."""
    d = config.distillation
    if d.gains:
        yield from _answers_found(task, config)
    if not d.learns:
        return
    if not isinstance(task, TracesTask):
        reason = f"task {config.task.name} has no solutions to learn"
        yield ConfigError("distillation.name", d.name, reason, "write distillation.name=none, or choose another task")
    elif isinstance(task, TextTask):
        yield from _traces_of_text(task, config)
    elif d.traces:
        reason = f"task {config.task.name} has solutions of its own"
        yield ConfigError("distillation.traces", d.traces, reason, "leave it out")
    elif config.resume:
        yield from _as_many_as_before(task, config)


def _answers_found(task: Task, config: RunConfig) -> Errors:
    """Refuses gains where a task does not say where its answers are, or where graders read them from plain words."""
    d = config.distillation
    if not (isinstance(task, AnswersTask) and isinstance(task, SplitsSteps | TextTask)):
        reason = f"task {config.task.name} does not say where its responses' steps and answers are"
        yield ConfigError("distillation.name", d.name, reason, "write distillation.name=mixture")
    elif isinstance(task, TextTask):
        graders = task.training_graders()
        unmarked = {name: count for name, count in graders.items() if name not in POLICIES}
        if unmarked:
            reason = (
                f"{sum(unmarked.values()):,} of {graders.total():,} training questions have the grader "
                f"{', '.join(unmarked)}, whose prompt asks for no mark of the answer: no gain could be computed"
            )
            remedy = f"write distillation.name=mixture, or train on questions of {', '.join(POLICIES)}"
            yield ConfigError("distillation.name", d.name, reason, remedy)


def _as_many_as_before(task: TracesTask, config: RunConfig) -> Errors:
    """Refuses to resume a run with more or fewer steps where these decide how many questions are labelled."""
    file = Path(config.resume) / "config.yaml"
    if task.training_size() is not None or not file.is_file():  # resume=auto, and there is no run yet
        return
    stored = convert(int, "steps", read_yaml(file).get("steps", config.steps))
    before, now = (labelled_questions(replace(config, steps=steps), task) for steps in (stored, config.steps))
    if before != now:
        yield ConfigError(
            "steps",
            config.steps,
            f"the run in {config.resume} was started with {stored} steps and {before:,} labelled traces, a share of "
            f"the questions that it asks; with these steps they would be {now:,}, and it would be another run",
            f"write steps={stored}, or start a new run without resume=",
        )


def labelled_questions(config: RunConfig, task: TracesTask) -> int:
    """Returns how many questions have traces: a share of all that there are, or of those that the run asks where they
    never end."""
    size = task.training_size()
    return config.distillation.questions(config.steps * config.prompts_per_step if size is None else size)


def _traces_of_text(task: TextTask, config: RunConfig) -> Errors:
    """Makes the traces, and yields an error if there is none."""
    d, settings = config.distillation, config.grading
    try:
        with GraderPool(settings.processes, settings.seconds, settings.memory_mib) as pool:
            room = config.rollout.max_new_tokens
            # a rehearsal's responses are short: what it learns are the beginnings of traces
            found = task.learn_traces(d.traces, labelled_questions(config, task), room, pool, cut=config.rehearse)
    except ValueError as error:
        yield ConfigError("distillation.traces", d.traces, str(error), "give another file, or leave it out")
        return
    if not found.targets:
        yield ConfigError(
            "distillation.traces" if d.traces else "distillation.labelled",
            d.traces or d.labelled,
            f"none of {found.questions:,} labelled questions has a trace to learn: {', '.join(found.left_out())}",
            "give rows with a solution that ends in its answer, or a larger rollout.max_new_tokens",
        )


def internal_pairings(c: RunConfig) -> Errors:
    """Yields an error for everything by which a gold answer would reach a run with an internal reward: groups that are
    dropped by outcome, a model chosen by validation, decisions that are trained or rewarded."""
    if c.reward is None or not c.reward.internal or c.algorithm is None:
        return
    golds = f"reward.name={c.reward.name} reads no gold answer, and"
    algorithm = ALGORITHMS[c.algorithm.name].build(c.algorithm)
    if algorithm.drop_uniform_groups:
        own = hasattr(c.algorithm, "drop_uniform_groups")
        yield ConfigError(
            "algorithm.drop_uniform_groups" if own else "algorithm.name",
            True if own else c.algorithm.name,
            f"{golds} this drops groups by whether their responses are right",
            "write algorithm.drop_uniform_groups=false and algorithm.max_draws=1"
            if own
            else "choose another algorithm",
        )
    if c.checkpoint.best:
        yield ConfigError(
            "checkpoint.best",
            c.checkpoint.best,
            f"{golds} a model would be chosen by the gold answers of the validation questions",
            "leave it out, and report the last step's model",
        )
    if c.decision.trains:
        yield ConfigError(
            "decision.name",
            c.decision.name,
            f"{golds} decisions are trained toward options by whether they are right",
            "write decision.name=none",
        )
    if c.decision.reward != "sampled":
        yield ConfigError(
            "decision.reward",
            c.decision.reward,
            f"{golds} judges the group as it was sampled, not with other options in it",
            "write decision.reward=sampled",
        )
