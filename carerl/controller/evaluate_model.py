"""``python -m carerl.evaluate``: a model by itself, through engine and grader actors, into a run directory.

The directory is an ordinary one (``carerl.compare`` takes it), with one evaluation, that of step 0. Samples reach the
disk as they end: an evaluation that was stopped goes on with the same command, and asks nothing twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict

from carerl.actors.cluster import jobs
from carerl.actors.cluster.cluster import cluster
from carerl.actors.crew import crew
from carerl.actors.health.error_log import NAME as ERROR_LOG
from carerl.config.check.at_hand import check_cluster
from carerl.config.check.places import RUN_MIB, check_writable
from carerl.config.check.prompts import prompt_record
from carerl.config.load import dump
from carerl.config.schema import RunConfig
from carerl.controller import disk
from carerl.controller.evaluation import chosen, sample, score
from carerl.controller.last_words import LastWords
from carerl.controller.launch import Result, all_done, report_written, say_threads
from carerl.controller.models import base_model, starting_weights
from carerl.controller.preparation import first_lines, prepare, say_trust, with_end_ids
from carerl.controller.stopping import Interrupted, StopFlag, starting
from carerl.errors import ConfigError
from carerl.report import write_evaluation_report
from carerl.report.evaluation_table import print_evaluation
from carerl.runs.directory import RunDirectory
from carerl.runs.samples import SampleStore
from carerl.runs.tables import read_evaluations, write_evaluation
from carerl.tasks import Suite
from carerl.tracking.display import Display, make_display
from carerl.types import Group, RunError

AGAIN = "the same command with the same out= goes on with it"
PART_SECONDS = 20.0  # between two parts of the samples on disk: what a stop that gives no time would lose


def launch(config: RunConfig) -> Result:
    """Evaluates ``config.model.path``. Raises ConfigError before any actor has started."""
    field, where = ("out", config.run_dir) if config.run_dir else ("runs_dir", config.runs_dir)
    jobs.check_storage(field, where)
    directory = RunDirectory(config.resume) if config.resume else None
    if directory is not None:
        starting_weights.check_unchanged(config, directory.path, config.model.path)
    if directory is not None and (directory.read_summary() or {}).get("status") == "completed":
        return _show(directory)
    check_writable(field, where, RUN_MIB, "the evaluation")
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
    prompts = prompt_record(config, task)
    begin = time.monotonic()
    metrics: dict[str, float] = {}
    status, exit_code, stop = "failed", 1, StopFlag()
    try:
        display.message(f"run directory: {directory.path}")
        for line in first_lines(config, task, tokenizer):
            display.message(line)
        display.stage("start ray")
        with (
            LastWords() as last,
            starting(stop),
            cluster(config.cluster.address, base_model.object_store_mib(config)) as resources,
            stop,
        ):
            last.of(directory.path, f"the same command with out={directory.path}", saves=False)
            check_cluster(config, resources.cpus, resources.gpus, grows=resources.joined)
            display.stage("start actors")
            with crew(config, display.message, stop.check, stop.request, stop.code) as actors:
                assert actors.rollout is not None
                actors.ask.log.move_to(directory.path / ERROR_LOG)
                display.stage("load model")
                actors.load(config, config.model.path)
                say_threads(actors, display)
                actors.rollout.use_loaded()
                progress = _Progress(display, store, total, stop)
                results: dict[str, list[Group]] = {}
                for suite in suites:
                    display.stage(suite.name)
                    progress.suite = suite.name
                    results[suite.name] = sample(actors, config, task, suite, store, progress, display.message)
                    if stop:
                        break
        if stop:
            status, exit_code = "interrupted", stop.exit_code
        else:
            scored = score(task, suites, results)
            metrics = scored.metrics
            write_evaluation(directory.evaluations, 0, scored, asdict(config.evaluation))
            store.close()
            status, exit_code = "completed", 0
    except (KeyboardInterrupt, Interrupted):
        status, exit_code = "interrupted", stop.exit_code or 130
    except OSError as error:
        if not disk.is_full(error):
            raise
        raise disk.told(error) from error
    except RunError as error:
        error.add_note(f"the same command with out={directory.path} goes on with it")
        raise
    finally:
        summary = {
            "kind": config.kind,
            "recipe": config.recipe,
            "model": config.model.path,
            "seed": config.seed,
            "status": status,
            "steps": 0,
            "base": metrics,
            "final": metrics,
            "seconds": time.monotonic() - begin,
            "run_dir": str(directory.path),
            "prompts": prompts,
        }
        failed = all_done(
            ("the samples' table", store.write_part),  # what is in it already is not written again
            ("the display", display.close),
            ("summary.json", lambda: directory.write_summary(summary)),
            ("the directory's lock", directory.release),
        )
    if failed:
        raise RunError(f"not all of {directory.path} could be written ({', '.join(failed)}): {AGAIN}")
    if status == "completed":
        if page := report_written(write_evaluation_report, directory, print):
            print(f"report: {page}", flush=True)
        return _show(directory)
    print(f"stopped; the same command with out={directory.path} goes on with it", flush=True)
    return Result(status, 0, directory.path, {}, {}, exit_code)


def _check_earlier(directory: RunDirectory, store: SampleStore, suites: list[Suite]) -> None:
    """Refuses to go on with answers to other questions. Raises ConfigError."""
    try:
        for suite in suites:
            store.finished(suite.name, suite.examples)
    except ValueError as error:
        raise ConfigError("out", str(directory.path), str(error), "give another out=") from None


def _new_directory(config: RunConfig) -> RunDirectory:
    directory = RunDirectory.create(config.runs_dir, f"evaluate_{config.recipe}", config.seed, path=config.run_dir)
    directory.write_config(dump(config))
    directory.write_versions()
    starting_weights.record(directory.path, config.model.path)
    return directory


def _show(directory: RunDirectory) -> Result:
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
