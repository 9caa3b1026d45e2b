"""From a config to a finished run and its exit code."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from carerl.actors.crew import Crew, crew
from carerl.actors.ray_cluster import cluster
from carerl.backends.model_files import load_tokenizer
from carerl.config.checks import check_cluster, check_model_dir, check_task
from carerl.config.load import dump
from carerl.config.schema import RunConfig
from carerl.config.shapes import looks_local
from carerl.config.typed import plain
from carerl.controller import base, checkpoints, rl, sft, weights
from carerl.controller.context import Context
from carerl.controller.evaluation import evaluate
from carerl.controller.stopping import StopFlag
from carerl.report import Display, RunDirectory, make_display, make_trackers, print_summary, write_report
from carerl.report.records import read_evaluations
from carerl.tasks import TASKS


@dataclass
class Result:
    """How a run ended. ``metrics`` are those of the last evaluation at the end, empty if none was made."""

    status: str
    step: int
    run_dir: Path
    base: dict[str, float]
    final: dict[str, float]
    exit_code: int


def launch(config: RunConfig) -> Result:
    """One run in a cluster and with actors of its own."""
    display = make_display(config.tracking.display, config.steps, f"{config.recipe} · seed {config.seed}")
    try:
        with StopFlag(display.message) as stop, cluster_for(config, display):
            model_dir = base.model_directory(config, display, stop)
            display.stage("start actors")
            with crew(config) as actors:
                return run(config, actors, model_dir, display, stop)
    finally:
        display.close()


@contextmanager
def cluster_for(config: RunConfig, display: Display) -> Iterator[None]:
    """A Ray cluster that can hold the plan."""
    display.stage("start ray")
    with cluster(config) as resources:
        check_cluster(config, resources.cpus, resources.gpus)
        yield


def run(config: RunConfig, actors: Crew, model_dir: str, display: Display, stop: StopFlag) -> Result:
    """One run with actors that are there already (a sweep's are used by many). Whatever happens, the run
    directory says how it ended."""
    if model_dir and looks_local(model_dir):
        check_model_dir(model_dir, config)
    task = TASKS[config.task.name].build(config.task, config.seed)
    tokenizer = load_tokenizer(model_dir, config.model.trust_remote_code) if model_dir else task.make_tokenizer()
    task.attach(tokenizer)
    check_task(task, config)
    directory, start = _open(config, display)
    trackers = make_trackers(directory, plain(config), resume_step=start, warn=display.message)
    context = Context(config, task, tokenizer, actors, directory, trackers, display, stop, model_dir)
    begin = time.monotonic()
    result = Result("failed", start or 0, directory.path, {}, {}, 1)
    try:
        display.stage("load models")
        actors.load(config, model_dir)
        if start:
            actors.learner.restore(checkpoints.latest(directory.checkpoints, display.message)[0] / "learner")
        _train(context, start or 0, result)
    except KeyboardInterrupt:
        result.status, result.exit_code = "interrupted", stop.exit_code or 130
    finally:
        trackers.close(result.status)
        seconds = time.monotonic() - begin
        directory.write_summary(
            {
                "recipe": config.recipe,
                "seed": config.seed,
                "status": result.status,
                "steps": result.step,
                "base": result.base,
                "final": result.final,
                "seconds": seconds,
                "run_dir": str(directory.path),
            }
        )
        if result.step or result.base:
            display.stage("report")
            write_report(directory)
        directory.release()
        display.close()
    _say_how_it_ended(config, result, seconds)
    return result


def _open(config: RunConfig, display: Display) -> tuple[RunDirectory, int | None]:
    """The run's directory, and the step to go on from (None: a fresh run)."""
    if config.resume:
        directory = RunDirectory.open(config.resume)
        _, state = checkpoints.latest(directory.checkpoints, display.message)
        display.message(f"going on with {directory.path} after step {state['step']}")
        return directory, int(state["step"])
    directory = RunDirectory.create(config.runs_dir, config.recipe, config.seed, path=config.run_dir)
    directory.write_config(dump(config))
    directory.write_versions()
    display.message(f"run directory: {directory.path}")
    return directory, None


def _train(context: Context, start: int, result: Result) -> None:
    """Sync, evaluate, train, evaluate: the run proper. Fills ``result`` as it goes."""
    config, settings = context.config, context.config.evaluation
    evaluates = context.crew.rollout is not None
    if evaluates:
        weights.synchronise(context.crew, version=start)
        weights.probe(context.crew, context.task, config)
        if start:
            result.base = _earlier_base(context)
        elif settings.at_start:
            result.base = evaluate(context, 0, settings.questions)
    loop = {"rl": _rl, "sft": _sft}[config.kind]
    result.step = loop(context, start)
    if result.step < config.steps:
        result.status, result.exit_code = "interrupted", context.stop.exit_code
        return
    if evaluates and settings.at_end:
        if config.kind == "sft":
            weights.synchronise(context.crew, version=result.step)
        result.final = evaluate(context, result.step, settings.questions)
    result.status, result.exit_code = "completed", 0


def _rl(context: Context, start: int) -> int:
    return rl.train(context, start)


def _sft(context: Context, start: int) -> int:
    config, crew_ = context.config, context.crew

    def on_step(step: int, metrics: dict[str, float]) -> None:
        context.trackers.log(step, metrics)
        context.display.step(step, metrics)

    def on_checkpoint(step: int) -> None:
        checkpoints.save(context, step)

    step = sft.train(config, context.task, crew_.learner, start, context.stop, on_step, on_checkpoint)
    target = base.base_directory(config)
    if step == config.steps and not target.exists():
        partial = target.with_name(f".{target.name}.partial")
        crew_.learner.export(partial, context.tokenizer, config.model.dtype)
        base.install(partial, target, config, {"steps": config.steps})
        context.display.message(f"base model: {target}")
    return step


def _earlier_base(context: Context) -> dict[str, float]:
    for record in read_evaluations(context.run.evaluations):
        if record["step"] == 0:
            return dict(record["metrics"])
    return {}


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
        print(f"stopped after step {result.step} of {config.steps}; {_how_to_go_on(result)}", flush=True)
    elif result.status == "completed":
        print(f"report: {result.run_dir / 'report.html'}", flush=True)


def _how_to_go_on(result: Result) -> str:
    if (result.run_dir / "checkpoints" / "latest").exists():
        return f"go on with: python -m carerl.run resume={result.run_dir}"
    return "nothing was saved yet, so start it again"
