"""``python -m carerl.evaluate``: evaluates a model by itself, through engine and grader actors.

It writes an ordinary run directory (``carerl.compare`` reads it) with one evaluation, that of step 0. Samples reach the
disk as they end: the same command resumes an evaluation that was stopped, and asks nothing twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from carerl.actors.cluster import jobs
from carerl.actors.crew import EvaluationCrew
from carerl.actors.health.error_log import NAME as ERROR_LOG
from carerl.calibration import Estimate
from carerl.config.check.places import RUN_MIB, check_writable
from carerl.config.check.prompts import prompt_record
from carerl.config.load import dump
from carerl.config.schema import RunConfig
from carerl.controller.decoding import Plan, decode, planned
from carerl.controller.decoding.plan import check_shown
from carerl.controller.ending.last_words import LastWords
from carerl.controller.ending.stopping import StopFlag
from carerl.controller.evaluation import chosen, evaluate, sample
from carerl.controller.models import base_model, starting_weights
from carerl.controller.preparation import first_lines, prepare, say_trust, with_end_ids
from carerl.controller.session import Result, accounted, report_written, say_threads, staffed
from carerl.controller.trace_swap import swap_traces
from carerl.errors import ConfigError
from carerl.report import write_evaluation_report
from carerl.report.decoding import terminal_tree
from carerl.report.evaluation_table import print_evaluation
from carerl.runs.decoded import Answered, DecodedStore, decoded_ids, read_decoded
from carerl.runs.decoding import measures, metrics_and_intervals
from carerl.runs.directory import RunDirectory
from carerl.runs.samples import SampleStore
from carerl.runs.tables import read_evaluations, write_evaluation
from carerl.tasks import Evaluation, Suite, Task
from carerl.tracking.display import Display, make_display
from carerl.types import Group, RunError

PART_SECONDS = 20.0  # between two parts of the samples on disk: so much is lost at most by a stop that gives no time


def launch(config: RunConfig) -> Result:
    """Evaluates ``config.model.path``. Raises ConfigError before any actor has started."""
    if (done := _check(config)) is not None:
        return done
    say_trust(config)
    config = base_model.pinned(config)
    task, tokenizer = prepare(config, base_model.absolute(config.model.path))
    config = with_end_ids(config, task, base_model.absolute(config.model.path))
    suites = chosen(config, task, config.evaluation.questions)
    plan = planned(config, task, tokenizer, suites)
    total = sum(len(suite.examples) for suite in suites) + (plan.questions if plan else 0)
    directory = RunDirectory.open(config.resume) if config.resume else _new_directory(config)
    display = make_display(config.tracking.display, total, f"{config.recipe} · {total} questions")
    store = SampleStore(directory.evaluations, 0, tokenizer.decode, display.message)
    decoded = DecodedStore(directory.evaluations, 0, tokenizer.decode, display.message)
    stop = StopFlag()
    work = _Work(config, task, suites, plan, directory, store, decoded, display, stop)
    work.check_earlier()
    result = Result("failed", 0, directory.path, {}, {}, 1)
    summary = _summary(config, result, prompt_record(config, task))
    closing = (
        ("the samples' table", store.write_part),  # what is in it already is not written again
        ("the table of decoded questions", decoded.write_part),
        ("the display", display.close),
        ("summary.json", lambda: directory.write_summary(summary())),
        ("the directory's lock", directory.release),
    )
    with accounted(result, stop, lambda: _again(directory), *closing):
        display.message(f"run directory: {directory.path}")
        for line in first_lines(config, task, tokenizer):
            display.message(line)
        if plan is not None and plan.warning:
            display.message(plan.warning)
        scored = work.evaluate()
        if scored is None:
            result.status, result.exit_code = "interrupted", stop.exit_code
        else:
            result.base = result.final = scored.metrics
            write_evaluation(directory.evaluations, 0, scored, asdict(config.evaluation))
            store.close()
            if plan is not None:
                decoded.close()
            result.status, result.exit_code = "completed", 0
    return _ended(result, directory, config.decode.show)


def _check(config: RunConfig) -> Result | None:
    """Refuses places that cannot be written to, and an evaluation of other weights. Returns the result of an evaluation
    that is complete already, and shows it; None for any other. Raises ConfigError."""
    field, where = ("out", config.run_dir) if config.run_dir else ("runs_dir", config.runs_dir)
    jobs.check_storage(field, where)
    if config.resume:
        directory = RunDirectory(config.resume)
        starting_weights.check_unchanged(config, directory.path, config.model.path)
        if (directory.read_summary() or {}).get("status") == "completed":
            return _show(directory, config.decode.show)
    check_writable(field, where, RUN_MIB, "the evaluation")
    return None


def _ended(result: Result, directory: RunDirectory, shown: str) -> Result:
    """Shows how an evaluation ended, and writes its page. Raises RunError if not everything could be written."""
    if result.unwritten:
        missing = ", ".join(result.unwritten)
        raise RunError(f"not all of {directory.path} could be written ({missing}): {_again(directory)}")
    if result.status == "completed":
        if page := report_written(write_evaluation_report, directory, print):
            print(f"report: {page}", flush=True)
        return _show(directory, shown)
    print(f"stopped; {_again(directory)}", flush=True)
    return result


def _again(directory: RunDirectory) -> str:
    """Returns the words that tell a person how to resume the evaluation."""
    return f"the same command with out={directory.path} resumes it"


@dataclass(frozen=True)
class _Work:
    """Holds an evaluation: what is asked, and where what comes of it is kept. ``plan``: what is decoded; None:
    nothing."""

    config: RunConfig
    task: Task
    suites: Sequence[Suite]
    plan: Plan | None
    directory: RunDirectory
    store: SampleStore
    decoded: DecodedStore
    display: Display
    stop: StopFlag

    def check_earlier(self) -> None:
        """Refuses to resume from answers to other questions. Raises ConfigError."""
        try:
            for suite in self.suites:
                self.store.finished(suite.name, suite.examples)
            for suite in self.plan.suites if self.plan else ():
                for method in self.config.decode.methods:
                    self.decoded.finished(suite.name, method, suite.examples)
        except ValueError as error:
            raise ConfigError("out", str(self.directory.path), str(error), "give another out=") from None

    def evaluate(self) -> Evaluation | None:
        """Starts a crew, asks all questions and scores the answers; returns None if a stop was asked for."""
        with LastWords() as last, self.stop:
            again = f"the same command with out={self.directory.path}"
            last.of(self.directory.path, again, saves=False)
            with staffed(self.config, self.display, self.stop) as actors:
                actors.ask.log.move_to(self.directory.path / ERROR_LOG)
                self.display.stage("load model")
                actors.load(self.config, self.config.model.path)
                say_threads(actors, self.display)
                actors.engines.use_loaded()
                progress = _Progress(self)
                results, swapped = self._sample(actors, progress)
                answered = self._decode(actors, progress)
        if self.stop:
            return None
        scored = evaluate(self.task, self.suites, results, swapped)
        metrics, intervals = metrics_and_intervals(measures(answered))
        return replace(scored, metrics=scored.metrics | metrics, intervals=scored.intervals | intervals)

    def _sample(
        self, actors: EvaluationCrew, progress: _Progress
    ) -> tuple[dict[str, list[Group]], dict[str, Estimate]]:
        """Returns the graded groups of each suite, and what swapped traces showed; less if a stop was asked for."""
        results: dict[str, list[Group]] = {}
        swapped: dict[str, Estimate] = {}
        for suite in self.suites:
            progress.begin(suite.name)
            groups = sample(actors, self.config, self.task, suite, self.store, progress, self.display.message)
            results[suite.name] = groups
            if self.stop:
                break
            swapped |= swap_traces(actors.engines, self.config, self.task, suite.name, groups, lambda: progress([]))
        return results, swapped

    def _decode(self, actors: EvaluationCrew, progress: _Progress) -> dict[str, dict[str, list[Answered]]]:
        """Returns each suite's questions as each method answered them; less if a stop was asked for."""
        if self.plan is None or self.stop:
            return {}

        def begin(name: str) -> Callable[[Sequence[Answered]], bool]:
            progress.begin(name)
            return lambda ended: progress.count(
                len(ended), sum(one.right for one in ended), len(ended), sum(one.decoded.tokens for one in ended)
            )

        return decode(actors, self.plan, self.decoded, self.directory.evaluations, begin, self.display.message)


def _summary(config: RunConfig, result: Result, prompts: Any) -> Callable[[], dict[str, Any]]:
    """Returns a function that makes summary.json of the result as it is when called, with the seconds since now."""
    begin = time.monotonic()
    return lambda: {
        "kind": config.kind,
        "recipe": config.recipe,
        "model": config.model.path,
        "seed": config.seed,
        "status": result.status,
        "steps": 0,
        "base": result.base,
        "final": result.final,
        "seconds": time.monotonic() - begin,
        "run_dir": str(result.run_dir),
        "prompts": prompts,
    }


def _new_directory(config: RunConfig) -> RunDirectory:
    """Makes the run directory of a new evaluation, with what is known before it starts."""
    directory = RunDirectory.create(config.runs_dir, f"evaluate_{config.recipe}", config.seed, path=config.run_dir)
    directory.write_config(dump(config))
    directory.write_versions()
    starting_weights.record(directory.path, config.model.path)
    return directory


def _show(directory: RunDirectory, shown: str) -> Result:
    """Prints a complete evaluation and returns its result. ``shown``: the id of a question of which each method's tree
    is printed too, '' for none. Raises ConfigError if it was not decoded."""
    record = read_evaluations(directory.evaluations)[0]
    print_evaluation(record, directory)
    if shown:
        check_shown(shown, decoded_ids(directory.evaluations, 0))
        for one in read_decoded(directory.evaluations, 0, shown):
            print(f"\n{terminal_tree(one)}", flush=True)
    return Result("completed", 0, directory.path, record["metrics"], record["metrics"], 0)


class _Progress:
    """Shows how far an evaluation is, and writes what it has down now and then."""

    def __init__(self, work: _Work, now: Callable[[], float] = time.monotonic) -> None:
        self._work, self._now = work, now
        self._total = sum(len(suite.examples) for suite in work.suites) + (work.plan.questions if work.plan else 0)
        self._written = now()
        self._done = 0
        self.begin("")

    def begin(self, name: str) -> None:
        """Begins a suite, or a method on one. Figures are of what comes from here on."""
        if name:
            self._work.display.stage(name)
        self._name, self._begin = name, self._now()
        self._right = self._answers = self._tokens = 0

    def __call__(self, ended: list[Group]) -> bool:
        """Counts groups that ended; returns False once a stop was asked for."""
        samples = [sample for group in ended for sample in group.samples]
        right, tokens = sum(sample.correct for sample in samples), sum(len(sample.response_ids) for sample in samples)
        return self.count(len(ended), right, len(samples), tokens)

    def count(self, questions: int, right: int, answers: int, tokens: int) -> bool:
        """Counts questions that ended, with ``right`` of ``answers`` right; returns False once a stop was asked for."""
        self._done += questions
        self._right, self._answers, self._tokens = self._right + right, self._answers + answers, self._tokens + tokens
        seconds = max(1e-9, self._now() - self._begin)
        share = self._right / max(1, self._answers)
        found = f"{100 * share:.1f} % right · {self._tokens / seconds:,.0f} tokens/s" if self._answers else "decoding"
        self._work.display.progress(self._done, self._total, f"{self._name} · {found}")
        if self._now() - self._written > PART_SECONDS:
            self._work.store.write_part()
            self._work.decoded.write_part()
            self._written = self._now()
        return not self._work.stop
