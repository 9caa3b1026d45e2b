"""``python -m carerl.evaluate``: evaluates a model by itself, through engine and grader actors.

It writes an ordinary run directory (``carerl.compare`` reads it) with one evaluation, that of step 0. Samples reach the
disk as they end: the same command resumes an evaluation that was stopped, and asks nothing twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from carerl.actors.cluster import jobs
from carerl.actors.health.error_log import NAME as ERROR_LOG
from carerl.calibration import Estimate
from carerl.config.check.places import RUN_MIB, check_writable
from carerl.config.check.prompts import prompt_record
from carerl.config.load import dump
from carerl.config.schema import RunConfig
from carerl.controller.ending.last_words import LastWords
from carerl.controller.ending.stopping import StopFlag
from carerl.controller.evaluation import chosen, evaluate, sample
from carerl.controller.models import base_model, starting_weights
from carerl.controller.preparation import first_lines, prepare, say_trust, with_end_ids
from carerl.controller.session import Result, accounted, report_written, say_threads, staffed
from carerl.controller.trace_swap import swap_traces
from carerl.errors import ConfigError
from carerl.report import write_evaluation_report
from carerl.report.evaluation_table import print_evaluation
from carerl.runs.directory import RunDirectory
from carerl.runs.samples import SampleStore
from carerl.runs.tables import read_evaluations, write_evaluation
from carerl.tasks import Suite, Task
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
    total = sum(len(suite.examples) for suite in suites)
    directory = RunDirectory.open(config.resume) if config.resume else _new_directory(config)
    display = make_display(config.tracking.display, total, f"{config.recipe} · {total} questions")
    store = SampleStore(directory.evaluations, 0, tokenizer.decode, display.message)
    _check_earlier(directory, store, suites)
    stop = StopFlag()
    result = Result("failed", 0, directory.path, {}, {}, 1)
    summary = _summary(config, result, prompt_record(config, task))
    closing = (
        ("the samples' table", store.write_part),  # what is in it already is not written again
        ("the display", display.close),
        ("summary.json", lambda: directory.write_summary(summary())),
        ("the directory's lock", directory.release),
    )
    with accounted(result, stop, lambda: _again(directory), *closing):
        display.message(f"run directory: {directory.path}")
        for line in first_lines(config, task, tokenizer):
            display.message(line)
        results, swapped = _sample(config, task, suites, directory, store, display, stop)
        if stop:
            result.status, result.exit_code = "interrupted", stop.exit_code
        else:
            scored = evaluate(task, suites, results, swapped)
            result.base = result.final = scored.metrics
            write_evaluation(directory.evaluations, 0, scored, asdict(config.evaluation))
            store.close()
            result.status, result.exit_code = "completed", 0
    return _ended(result, directory)


def _check(config: RunConfig) -> Result | None:
    """Refuses places that cannot be written to, and an evaluation of other weights. Returns the result of an evaluation
    that is complete already, and shows it; None for any other. Raises ConfigError."""
    field, where = ("out", config.run_dir) if config.run_dir else ("runs_dir", config.runs_dir)
    jobs.check_storage(field, where)
    if config.resume:
        directory = RunDirectory(config.resume)
        starting_weights.check_unchanged(config, directory.path, config.model.path)
        if (directory.read_summary() or {}).get("status") == "completed":
            return _show(directory)
    check_writable(field, where, RUN_MIB, "the evaluation")
    return None


def _ended(result: Result, directory: RunDirectory) -> Result:
    """Shows how an evaluation ended, and writes its page. Raises RunError if not everything could be written."""
    if result.unwritten:
        missing = ", ".join(result.unwritten)
        raise RunError(f"not all of {directory.path} could be written ({missing}): {_again(directory)}")
    if result.status == "completed":
        if page := report_written(write_evaluation_report, directory, print):
            print(f"report: {page}", flush=True)
        return _show(directory)
    print(f"stopped; {_again(directory)}", flush=True)
    return result


def _again(directory: RunDirectory) -> str:
    """Returns the words that tell a person how to resume the evaluation."""
    return f"the same command with out={directory.path} resumes it"


def _sample(
    config: RunConfig,
    task: Task,
    suites: Sequence[Suite],
    directory: RunDirectory,
    store: SampleStore,
    display: Display,
    stop: StopFlag,
) -> tuple[dict[str, list[Group]], dict[str, Estimate]]:
    """Starts a crew and returns the graded groups of each suite, and what swapped traces showed; less if a stop was
    asked for."""
    results: dict[str, list[Group]] = {}
    swapped: dict[str, Estimate] = {}
    with LastWords() as last, stop:
        last.of(directory.path, f"the same command with out={directory.path}", saves=False)
        with staffed(config, display, stop) as actors:
            actors.ask.log.move_to(directory.path / ERROR_LOG)
            display.stage("load model")
            actors.load(config, config.model.path)
            say_threads(actors, display)
            actors.engines.use_loaded()
            total = sum(len(suite.examples) for suite in suites)
            progress = _Progress(display, store, total, stop)
            for suite in suites:
                display.stage(suite.name)
                progress.suite = suite.name
                groups = sample(actors, config, task, suite, store, progress, display.message)
                results[suite.name] = groups
                if stop:
                    break
                swapped |= swap_traces(actors.engines, config, task, suite.name, groups, lambda: progress([]))
    return results, swapped


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


def _check_earlier(directory: RunDirectory, store: SampleStore, suites: list[Suite]) -> None:
    """Refuses to resume from answers to other questions. Raises ConfigError."""
    try:
        for suite in suites:
            store.finished(suite.name, suite.examples)
    except ValueError as error:
        raise ConfigError("out", str(directory.path), str(error), "give another out=") from None


def _new_directory(config: RunConfig) -> RunDirectory:
    """Makes the run directory of a new evaluation, with what is known before it starts."""
    directory = RunDirectory.create(config.runs_dir, f"evaluate_{config.recipe}", config.seed, path=config.run_dir)
    directory.write_config(dump(config))
    directory.write_versions()
    starting_weights.record(directory.path, config.model.path)
    return directory


def _show(directory: RunDirectory) -> Result:
    """Prints a complete evaluation and returns its result."""
    record = read_evaluations(directory.evaluations)[0]
    print_evaluation(record, directory)
    return Result("completed", 0, directory.path, record["metrics"], record["metrics"], 0)


class _Progress:
    """Shows how far an evaluation is, and writes its samples down now and then."""

    def __init__(
        self,
        display: Display,
        store: SampleStore,
        total: int,
        stop: StopFlag,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._display, self._store, self._total, self._stop, self._now = display, store, total, stop, now
        self._done = self._right = self._samples = self._tokens = 0
        self._begin = self._written = now()
        self.suite = ""

    def __call__(self, ended: list[Group]) -> bool:
        """Counts groups that ended; returns False once a stop was asked for."""
        samples = [sample for group in ended for sample in group.samples]
        self._done += len(ended)
        self._samples += len(samples)
        self._right += sum(sample.correct for sample in samples)
        self._tokens += sum(len(sample.response_ids) for sample in samples)
        seconds = max(1e-9, self._now() - self._begin)
        share = self._right / max(1, self._samples)
        found = f"{100 * share:.1f} % right · {self._tokens / seconds:,.0f} tokens/s" if self._samples else "decoding"
        text = f"{self.suite} · {found}"
        self._display.progress(self._done, self._total, text)
        if self._now() - self._written > PART_SECONDS:
            self._store.write_part()
            self._written = self._now()
        return not self._stop
