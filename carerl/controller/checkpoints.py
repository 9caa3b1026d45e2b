"""Checkpoints that are whole or absent.

``checkpoints/step_000100/`` holds ``model/`` (an ordinary Hugging Face directory), ``learner/`` (model and
optimizer, sharded, torch's distributed format), ``state.json`` and ``manifest.json`` (SHA-256 of every
file). Commit order: temporary directory → files fsynced → manifest → fsync → rename → parent fsynced →
pointer ``latest``. A directory whose manifest does not hold is passed over for the one before; the run that goes on
from that one renames it to ``step_000100.damaged``.

Learning rate and all random streams are functions of (seed, step): there is no generator whose state would have to be
kept. What else the loop knows, the data position among it, is :class:`carerl.controller.loop_state.LoopState`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from carerl.backends.model_files import ModelCard, describe_model
from carerl.controller.context import Context
from carerl.report import RunDirectory
from carerl.report.metric_table import metric_line
from carerl.report.records import evaluation_metrics
from carerl.report.summary import summary_rows
from carerl.types import RunError

FORMAT = 1


class NoCheckpoint(RunError):
    """There is nothing to go on from."""


def save(context: Context, step: int) -> Path:
    """Writes the checkpoint of ``step`` and removes those beyond ``checkpoint.keep``."""
    config = context.config
    final = context.run.checkpoint_dir(step)
    partial = final.with_name(f".{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    context.crew.learner.save(partial / "learner")
    _check_written(partial / "learner" / ".metadata")
    export(context, partial / "model", step)
    state = {
        "format": FORMAT,
        "step": step,
        "weight_version": step,
        "recipe": config.recipe,
        "seed": config.seed,
        "loop": asdict(context.loop),
    }
    (partial / "state.json").write_text(json.dumps(state, indent=2) + "\n")
    commit(partial, final)
    point(context.run.checkpoints / "latest", final)
    earlier = [path for number, path in _complete(final.parent) if number < step]
    for old in earlier[: max(0, len(earlier) + 1 - config.checkpoint.keep)]:
        shutil.rmtree(old)
    return final


def export(context: Context, model: Path, step: int) -> None:
    """Writes the weights as an ordinary Hugging Face directory, with a card."""
    context.crew.learner.export(model, context.tokenizer, context.config.model.dtype)
    for needed in ("config.json", "model.safetensors"):
        _check_written(model / needed)
    describe_model(model, _card(context, step))


def _check_written(file: Path) -> None:
    if not file.is_file():
        raise RunError(
            f"{file} is not there: the actors wrote the checkpoint where this process does not see it. "
            "Put the run directory (runs_dir=) on storage that all nodes share."
        )


def _card(context: Context, step: int) -> ModelCard:
    """The exported model's card, with the metrics of the evaluation at that step as tables name them."""
    metrics = evaluation_metrics(context.run, step)
    labelled = tuple(
        (metric_line(name).label, value) for name, _, value in summary_rows({}, metrics) if value is not None
    )
    return ModelCard.of(context.config, step, labelled, context.run.read_versions())


def commit(partial: Path, final: Path) -> None:
    """Makes a written directory appear under its name, with a manifest, or not at all."""
    files = sorted(path for path in partial.rglob("*") if path.is_file())
    manifest = {}
    for path in files:
        with open(path, "rb") as file:
            manifest[str(path.relative_to(partial))] = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
    with open(partial / "manifest.json", "w") as file:
        json.dump(manifest, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    for folder in [partial, *(path for path in partial.rglob("*") if path.is_dir())]:
        _fsync_directory(folder)
    if final.exists():
        _set_aside(final)
    os.rename(partial, final)
    _fsync_directory(final.parent)


def verify(directory: Path) -> str | None:
    """Why a checkpoint cannot be used, or None. Read before anything in it is unpickled."""
    try:
        manifest = json.loads((directory / "manifest.json").read_text())
        if not isinstance(manifest, dict):
            return "manifest.json is not a mapping"
        for name, digest in manifest.items():
            with open(directory / name, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    return f"{name} does not match its checksum"
        state = json.loads((directory / "state.json").read_text())
    except (OSError, ValueError) as error:
        return str(error)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        return f"state.json is not of format {FORMAT}, which this version reads"
    return None


def latest(checkpoints: Path, warn: Any) -> tuple[Path, dict[str, Any]]:
    """The newest checkpoint that is whole, and its state. Raises NoCheckpoint."""
    for _, directory in reversed(_complete(checkpoints)):
        problem = verify(directory)
        if problem is None:
            return directory, json.loads((directory / "state.json").read_text())
        warn(f"checkpoint {directory} is passed over: {problem}")
    raise NoCheckpoint(f"{checkpoints} holds no whole checkpoint")


def go_back(run: RunDirectory, checkpoint: Path, step: int, warn: Any) -> None:
    """Leaves a run directory as it was when the ``checkpoint`` of ``step`` was its newest one.

    Later checkpoints, which are damaged, are set aside. Evaluations, rollout tables and the summary of what came
    after are removed, as they are made again (the rows of metrics.jsonl are dropped by its tracker)."""
    # First: a pointer to a directory that is not there looks like a run without a checkpoint.
    point(run.checkpoints / "latest", checkpoint)
    for number, path in _complete(run.checkpoints):
        if number > step:
            warn(f"checkpoint {path} is set aside as {_set_aside(path).name}")
    for folder in (run.evaluations, run.rollouts):
        for number, path in numbered(folder, r"step_(\d+)\.[\w.]+"):
            if number > step:
                path.unlink()
    run.summary.unlink(missing_ok=True)


def _set_aside(directory: Path) -> Path:
    """Renames a checkpoint so that nothing takes it for one, and it is still there to look at."""
    names = (f"{directory.name}{again}.damaged" for again in ("", *(f".{n}" for n in range(2, 1000))))
    target = next(path for name in names if not (path := directory.with_name(name)).exists())
    os.rename(directory, target)
    return target


def _complete(checkpoints: Path) -> list[tuple[int, Path]]:
    """(step, directory) of what was committed, damaged since or not, in order of steps."""
    return [(number, path) for number, path in numbered(checkpoints, r"step_(\d+)") if path.is_dir()]


def numbered(folder: Path, pattern: str) -> list[tuple[int, Path]]:
    """What is named by a step in a folder, in order of steps; ``pattern`` has one group, the number."""
    found = [(re.fullmatch(pattern, path.name), path) for path in folder.glob("*_*")]
    return sorted((int(match[1]), path) for match, path in found if match)


def point(link: Path, target: Path) -> None:
    """Makes ``link`` lead to ``target``, its neighbour, at one stroke."""
    temporary = link.with_name(f".{link.name}.partial")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target.name)
    os.replace(temporary, link)


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
