"""Takes a config to a finished run and its exit code.

``launch`` starts a run with a cluster and actors of its own; ``run`` is a run with actors that are there already.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from carerl.actors.cluster import jobs
from carerl.actors.cluster.cluster import joins_cluster
from carerl.actors.crew import Crew
from carerl.actors.gauges import ray_gauge
from carerl.actors.health.error_log import NAME as ERROR_LOG
from carerl.config.check import places
from carerl.config.check.prompts import prompt_record
from carerl.config.load import AUTO, base_config, dump
from carerl.config.reading.typed import plain
from carerl.config.schema import RunConfig
from carerl.config.stored import command_to_go_on, newest_checkpoint
from carerl.controller import best, checkpoints
from carerl.controller.context import Context
from carerl.controller.ending.last_words import LastWords
from carerl.controller.ending.stopping import StopFlag
from carerl.controller.evaluation import evaluated, questions_due
from carerl.controller.loops import LOOPS, Loop
from carerl.controller.models import base_model, starting_weights
from carerl.controller.models.cache import check_room
from carerl.controller.preparation import first_lines, prepare, say_trust, with_end_ids
from carerl.controller.profiling import Profiler
from carerl.controller.schedule import changed_schedule
from carerl.controller.session import Result, accounted, report_written, say_threads, staffed
from carerl.errors import ConfigError
from carerl.report import reliability_pictures, write_report
from carerl.runs import commit
from carerl.runs.anchors import kept_anchors
from carerl.runs.directory import RunDirectory
from carerl.runs.loop_state import LoopState
from carerl.tasks import Task
from carerl.tracking.display import Display, make_display
from carerl.tracking.gauges import GaugeTracker
from carerl.tracking.summary import print_summary
from carerl.tracking.trackers import Trackers, make_trackers


def launch(config: RunConfig) -> Result:
    """Carries out one run in a cluster and with actors of its own. Raises ConfigError before any actor has started. A
    recipe that trains nothing leaves a base model in the cache, and no run directory."""
    if not config.does.roles:
        return _make_untrained(config)
    if config.kind not in LOOPS:
        remedy = f"add one to LOOPS, or write kind={' or '.join(LOOPS)}"
        raise ConfigError("kind", config.kind, "no loop carries it out", remedy)
    jobs.check_storage("run_dir" if config.run_dir else "runs_dir", config.run_dir or config.runs_dir)
    steps_before = _steps_before(config)
    if (done := _complete(config)) is not None:
        return done
    _check_places(config)
    say_trust(config)
    config, place = base_model.pinned(config), base_model.absolute(config.model.path)
    task, tokenizer = prepare(config, place)
    config = _started_again(config)
    if config.resume:
        _check_resumable(config)
    prepared: tuple[Task, Any] | None = None
    if place:  # otherwise the base model is still to come, with files of its own
        config, prepared = with_end_ids(config, task, place), (task, tokenizer)
    display = make_display(config.tracking.display, config.steps, f"{config.recipe} · seed {config.seed}")
    try:
        _say_before_start(config, prepared, steps_before, display)
        return _start(config, prepared, display)
    finally:
        display.close()


def run(
    config: RunConfig,
    actors: Any,
    model_dir: str,
    display: Display,
    stop: StopFlag,
    prepared: tuple[Task, Any] | None = None,
    opened: Callable[[Path, str], None] = lambda directory, command: None,
    twins: Sequence[Path] = (),
) -> Result:
    """Carries out one run with actors that are there already (a sweep uses the same ones for many runs). Whatever
    happens, the run directory says how it ended.

    ``prepared``: task and tokenizer of these settings and this model, if they are at hand and their first lines were
    shown. ``opened`` is called with the run directory and the command that resumes it. ``twins``: the directories of
    runs whose evaluation at step 0 is this one's too, where they start from the same weights."""
    config = base_model.pinned(config)
    task, tokenizer = prepared or prepare(config, model_dir)
    config = with_end_ids(config, task, model_dir)
    directory, start, saved = _open(config, display, model_dir)
    if prepared is None:
        _say_first(config, task, tokenizer, display)
    trackers = _trackers(config, directory, start, display)
    loop, state = LOOPS[config.kind], LoopState.after(config, start or 0, saved)
    profiler = Profiler(actors, config.profile, loop.recorded, start or 0)
    context = Context(
        config, task, tokenizer, actors, directory, trackers, display, stop, model_dir, state, profiler, twins=twins
    )
    result = Result("failed", start or 0, directory.path, {}, {}, 1)
    summary = _summary(context, result)
    opened(directory.path, command_to_go_on(directory.path, plain(config)))
    actors.ask.log.move_to(directory.path / ERROR_LOG)
    begin = time.monotonic()
    closing = (
        ("summary.json", lambda: directory.write_summary(summary(time.monotonic() - begin))),
        ("what is logged", lambda: trackers.close(result.status)),
        ("report.html", lambda: _write_report(directory, display)),
        ("the run's lock", directory.release),
        ("the display", display.close),
    )
    with (
        accounted(result, stop, lambda: _how_to_resume(result), *closing),
        actors.ask.in_words(),
        checkpoints.rescued(context),
    ):
        _load(context, start or 0)
        _train(context, loop, start or 0, result)
    if result.unwritten and result.exit_code == 0:
        result.exit_code = 1  # it trained to its end, but whoever looks at summary.json does not see that
    _say_how_it_ended(config, result, time.monotonic() - begin)
    return result


# ---- before any actor starts ----------------------------------------------------------------------


def _make_untrained(config: RunConfig) -> Result:
    """Makes a base model that needs no training."""
    made = Path(base_model.untrained_model(config))
    print(f"base model: {made}", flush=True)
    return Result("completed", 0, made, {}, {}, 0)


def _saved_step(run_dir: str | Path) -> int | None:
    """Returns the step of the newest checkpoint; None if there is no checkpoint."""
    newest = newest_checkpoint(run_dir)
    return int(newest.name.removeprefix("step_")) if newest else None


def _steps_before(config: RunConfig) -> tuple[int, int] | None:
    """Returns the step of the newest checkpoint, and the number of steps that the run had until now; None for a run
    that is not resumed. Raises ConfigError for fewer steps than are done."""
    if config.resume in ("", AUTO):
        return None
    done, before = _saved_step(config.resume) or 0, RunDirectory(config.resume).read_config().get("steps")
    _check_steps(config, done)
    return done, before if isinstance(before, int) else config.steps


def _check_steps(config: RunConfig, done: int) -> None:
    """Refuses fewer steps than are done. Raises ConfigError."""
    if config.steps < done:
        raise ConfigError("steps", config.steps, f"the run is at step {done}", f"write steps={done} or more")


def _complete(config: RunConfig) -> Result | None:
    """Returns the result of a run that is to be resumed and has nothing left to do; None for any other."""
    if config.resume in ("", AUTO):
        return None
    directory = RunDirectory(config.resume)
    summary = directory.read_summary() or {}
    if summary.get("status") != "completed" or _saved_step(config.resume) != config.steps:
        return None
    print(f"{config.resume} is complete, {config.steps} steps; steps=N with a larger N would resume it", flush=True)
    return Result("completed", config.steps, directory.path, summary.get("base") or {}, summary.get("final") or {}, 0)


def _check_places(config: RunConfig) -> None:
    """Refuses places that cannot be written to: the run's own, and the cache's for a base model. Raises ConfigError."""
    places.check_run(config)
    if config.model.base_recipe:
        check_room(Path(base_model.starting_directory(config)))


def _started_again(config: RunConfig) -> RunConfig:
    """Returns the settings of ``resume=auto`` without ``resume``: there is no checkpoint to resume from. A directory
    without a checkpoint is kept under another name."""
    if config.resume != AUTO:
        return config
    if (aside := RunDirectory.set_aside(config.run_dir)) is not None:
        print(f"{config.run_dir} has no checkpoint: it is kept as {aside}, and started again", flush=True)
    return replace(config, resume="")


def _check_resumable(config: RunConfig) -> None:
    """Refuses to resume a run that another process is writing, or from other starting weights. Raises ConfigError or
    RunDirectoryError."""
    RunDirectory.open(config.resume).release()
    if config.model.base_recipe:
        base = base_config(config)
        remedy = "resume it with the recipe and code of its start, or start a new run"
        starting_weights.check_recipe(base, config.resume, remedy)
        start = str(base_model.base_directory(base))
        base_model.remove_if_damaged(Path(start), base, print)
    else:
        start = base_model.absolute(config.model.path)
    if Path(start).exists():  # otherwise it is made again, and checked then
        starting_weights.check_unchanged(config, config.resume, start, say=lambda line: None)  # `_open` says it


def _say_first(config: RunConfig, task: Task, tokenizer: Any, display: Display) -> None:
    for line in first_lines(config, task, tokenizer):
        display.message(line)


def _say_before_start(
    config: RunConfig, prepared: tuple[Task, Any] | None, steps_before: tuple[int, int] | None, display: Display
) -> None:
    """Shows the run's first lines, how its learning rate changes when it is resumed, and whether a job has too little
    time to save."""
    if prepared is not None:
        _say_first(config, *prepared, display)
    if steps_before is not None and (notice := changed_schedule(*steps_before, config.steps, config.learner)):
        (partial(print, file=sys.stderr) if config.tracking.display == "quiet" else display.message)(notice)
    if warning := jobs.short_grace():
        display.message(warning)


def _start(config: RunConfig, prepared: tuple[Task, Any] | None, display: Display) -> Result:
    """Starts cluster and actors, has them make the base model if it is not in the cache, and carries out the run."""
    with (
        LastWords() as last,
        StopFlag() as stop,
        base_model.claim(config, display.message, stop.check) as turn,
        staffed(config, display, stop) as actors,
    ):
        model_dir = base_model.model_directory(config, getattr(actors, "learner", None), display, stop)
        turn.close()
        result = run(config, actors, model_dir, display, stop, prepared, last.of)
        last.ended()  # what Ray does to this process as its cluster ends is no news
        return result


# ---- the run --------------------------------------------------------------------------------------


def _open(config: RunConfig, display: Display, model_dir: str) -> tuple[RunDirectory, int | None, dict[str, Any]]:
    """Returns the run's directory, the step to resume from (None: a fresh run), and the checkpoint's state. Changes
    nothing in the directory before it is known that the run can be resumed."""
    if config.resume:
        return _open_again(config, display, model_dir)
    directory = RunDirectory.create(config.runs_dir, config.recipe, config.seed, path=config.run_dir)
    directory.write_config(dump(config))
    directory.write_versions()
    starting_weights.record(directory.path, model_dir, config.model.revision)
    display.message(f"run directory: {directory.path}")
    return directory, None, {}


def _open_again(config: RunConfig, display: Display, model_dir: str) -> tuple[RunDirectory, int, dict[str, Any]]:
    """Opens the directory of a run that is resumed, and leaves it as it was at its newest whole checkpoint."""
    directory = RunDirectory.open(config.resume)
    try:
        newest, state = commit.latest(directory.checkpoints, display.warning)
        done = int(state["step"])
        _check_steps(config, done)
        if done and config.anchor.drawn_first:
            kept_anchors(directory.anchors, config.anchor.per_step)
        starting_weights.check_unchanged(config, directory.path, model_dir, display.message)
    except BaseException:
        directory.release()
        raise
    checkpoints.go_back(directory, newest, done, display.warning)
    best.go_back(directory, done, config.checkpoint.best)
    starting_weights.record(directory.path, model_dir, config.model.revision)
    directory.write_config(dump(config))  # what was changed for this leg is part of the record
    display.message(f"resuming {directory.path} after step {done}")
    return directory, done, state


def _trackers(config: RunConfig, directory: RunDirectory, start: int | None, display: Display) -> Trackers:
    """Makes what the run logs to. A cluster that outlives the run gets gauges for Prometheus too."""
    labels = {"recipe": config.recipe, "seed": config.seed, "run": directory.name}
    gauges = [GaugeTracker(ray_gauge, labels, display.message)] if joins_cluster(config.cluster.address) else []
    return make_trackers(
        directory, plain(config), resume_step=start, warn=display.message, also=gauges, pictures=reliability_pictures
    )


def _summary(context: Context[Crew], result: Result) -> Callable[[float], dict[str, Any]]:
    """Returns a function that makes summary.json of the result as it is when called, given the seconds that the run
    took."""
    config, prompts = context.config, prompt_record(context.config, context.task)

    def summary(seconds: float) -> dict[str, Any]:
        result.step = max(result.step, context.step)
        return {
            "recipe": config.recipe,
            "seed": config.seed,
            "status": result.status,
            "steps": result.step,
            "base": result.base,
            "final": result.final,
            "seconds": seconds,
            "run_dir": str(context.run.path),
            "prompts": prompts,
            "best": best.read(context.run),
        }

    return summary


def _load(context: Context[Any], start: int) -> None:
    """Loads settings and weights into the actors, and the learner's state where the run is resumed."""
    actors, display = context.crew, context.display
    display.stage("load models")
    actors.load(context.config, context.model_dir)
    if (learner := getattr(actors, "learner", None)) is not None:
        learner.set_vocabulary(context.task.vocab_size)
    threads = say_threads(actors, display)
    if start:
        # `_open_again` has verified it
        if told := actors.learner.restore(context.run.checkpoint_dir(start) / "learner"):
            display.warning(told)
    else:
        context.run.add_versions({"threads": threads})


def _train(context: Context[Any], loop: Loop, start: int, result: Result) -> None:
    """Has the loop begin and train, and fills ``result`` on the way."""
    config = context.config
    loop.begin(context, start)
    result.base = evaluated(context.run, 0)
    result.step = context.step = start
    if not context.stop:
        result.step = loop.train(context, start)
        context.display.stage("checkpoint")
        checkpoints.finish(context)
    context.profiler.finish(result.step, context.run.path, context.display.message)
    ends_evaluated = questions_due(config, config.steps) is not None
    result.final = evaluated(context.run, config.steps) if ends_evaluated else {}
    if result.step < config.steps or (ends_evaluated and not result.final):
        result.status, result.exit_code = "interrupted", context.stop.exit_code
        return
    result.status, result.exit_code = "completed", 0


# ---- after it --------------------------------------------------------------------------------------


def _write_report(directory: RunDirectory, display: Display) -> None:
    display.stage("report")
    report_written(write_report, directory, display.message)


def _say_how_it_ended(config: RunConfig, result: Result, seconds: float) -> None:
    if config.tracking.display == "quiet":
        return
    if result.final:
        print_summary(
            result.base,
            result.final,
            title=f"{config.recipe} · seed {config.seed} · {result.step} steps",
            seconds=seconds,
            run_dir=str(result.run_dir),
        )
    if result.status == "interrupted":
        print(f"stopped after step {result.step} of {config.steps}; {_how_to_resume(result)}", flush=True)
    if config.checkpoint.best and result.status != "failed":
        print(best.report(RunDirectory(result.run_dir), config.checkpoint.best), flush=True)
    if result.status == "completed":
        print(f"report: {result.run_dir / 'report.html'}", flush=True)


def _how_to_resume(result: Result) -> str:
    """Returns the words that tell a person how to resume the run."""
    saved = _saved_step(result.run_dir)
    if saved is None:
        return "nothing was saved yet, so start it again"
    command = command_to_go_on(result.run_dir, RunDirectory(result.run_dir).read_config())
    if result.status == "failed":
        return f"saved is step {saved}; resume it with: {command}"
    return f"resume it with: {command}"
