"""Writes checkpoints that are whole or absent.

``checkpoints/step_000100/`` holds ``model/`` (an ordinary Hugging Face directory), ``learner/`` (model and optimizer,
sharded, torch's distributed format), ``state.json`` and ``manifest.json`` (SHA-256 of every other file). A file that
the manifest does not list, or lists with another sum, makes the checkpoint invalid, and so does a link.

Commit order: temporary directory → files fsynced → manifest → fsync → rename → parent fsynced → pointer ``latest``. The
pointer is there for people: a run is resumed from the newest directory whose manifest is right. If the newest one's is
not, the run is resumed from the one before, and the newest is renamed to ``step_000100.damaged``.

A manifest shows damage, not intent: whoever can write a checkpoint's files can write its manifest too. A checkpoint is
therefore read as data (:mod:`carerl.backends.learners.files`). Nobody can tell from the directory whether its numbers
are those of the run.

Learning rate and all random streams are functions of (seed, step): there is no generator whose state would have to be
saved. The loop's own state, with the data position, is :class:`carerl.runs.loop_state.LoopState`.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from carerl.config.reading.typed import plain
from carerl.config.stored import command_to_go_on, committed
from carerl.controller.context import Context
from carerl.controller.ending import disk
from carerl.metrics.table import metric_line, summary_rows
from carerl.runs.commit import FORMAT, commit, numbered, point, set_aside
from carerl.runs.directory import RunDirectory
from carerl.runs.model_card import ModelCard, describe_model
from carerl.runs.tables import evaluation_metrics
from carerl.types import RunError

SHARED_SECONDS = 30.0  # in which a file that another node wrote must be seen here: network storage has caches


class SaveFailed(RunError):
    """Says that a checkpoint could not be written. Earlier checkpoints are as they were."""


def save(context: Context[Any], step: int) -> Path:
    """Writes the checkpoint of ``step``, then removes the oldest ones beyond ``checkpoint.keep``. Raises SaveFailed if
    it cannot be written, before it begins if there is no room; then nothing of it stays, and no earlier one is removed.
    """
    final = context.run.checkpoint_dir(step)
    with whole_or_absent(context, f"the checkpoint of step {step}"):
        _check_room(context)
        _write(context, step, final)
    earlier = [path for number, path in committed(final.parent) if number < step]
    for old in earlier[: max(0, len(earlier) + 1 - context.config.checkpoint.keep)]:
        removed = old.with_name(f".{old.name}.removed")  # so that a half removed directory is no checkpoint
        os.rename(old, removed)
        shutil.rmtree(removed, ignore_errors=True)  # files that are still open are removed the next time
    return final


@contextmanager
def whole_or_absent(context: Context[Any], what: str) -> Iterator[None]:
    """Removes half written directories: earlier ones, and one that the block leaves if it fails. Turns errors of the
    file system, and of an actor that met one, into SaveFailed. ``what``: what is saved, in words."""
    remove_leftovers(context.run.checkpoints)
    try:
        yield
    except _NoRoom as error:
        raise SaveFailed(_not_saved(context, what, str(error))) from None
    except RunError:
        remove_leftovers(context.run.checkpoints)
        raise
    except Exception as error:
        remove_leftovers(context.run.checkpoints)
        raise SaveFailed(_not_saved(context, what, _reason(context, error))) from error


def remove_leftovers(checkpoints: Path) -> None:
    """Removes directories that a killed process left half written or half removed. The caller holds the run's lock."""
    for pattern in (".step_*.partial", ".step_*.removed", ".best_*.partial"):
        for path in checkpoints.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)


class _NoRoom(Exception):
    """Says that the disk has no room for a checkpoint."""


def _check_room(context: Context[Any]) -> None:
    """Raises _NoRoom if the next checkpoint does not fit on the disk."""
    place = context.run.path
    size, room = disk.needed(context.config, context.model_dir, place), disk.free(place)
    if room < size:
        raise _NoRoom(f"it takes about {disk.amount(size)}, and {disk.amount(room)} are free")


def _reason(context: Context[Any], error: Exception) -> str:
    """Returns in a line why saving failed, and how much room there is."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    reason = f"{type(error).__name__}: {lines[-1].strip() if lines else 'without a message'}"
    if disk.is_full(error):
        reason = f"the disk is full, or a quota is used up ({reason})"
    return f"{reason}; {disk.amount(disk.free(context.run.path))} are free"


def _not_saved(context: Context[Any], what: str, reason: str) -> str:
    """Returns the message about a checkpoint that could not be saved."""
    before = committed(context.run.checkpoints)
    kept = f"The checkpoint of step {before[-1][0]} is untouched" if before else "There is no earlier checkpoint"
    return (
        f"{what} could not be saved in {context.run.checkpoints}: {reason}. {kept}. Make room, then resume with: "
        f"{command_to_go_on(context.run.path, plain(context.config))}"
    )


def _write(context: Context[Any], step: int, final: Path) -> None:
    """Writes a checkpoint beside its place, and commits it."""
    config = context.config
    partial = final.with_name(f".{final.name}.partial")
    partial.mkdir(parents=True)
    written = context.crew.learner.save(partial / "learner")
    _check_seen(partial / "learner", {".metadata": 0, **written})
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
    commit(partial, final, [f"learner/{name}" for name in written])
    point(context.run.checkpoints / "latest", final)


def export(context: Context[Any], model: Path, step: int) -> None:
    """Writes the weights as an ordinary Hugging Face directory, with a card."""
    context.crew.learner.export(model, context.tokenizer, context.config.model.dtype)
    for needed in ("config.json", "model.safetensors"):
        _check_written(model / needed)
    describe_model(model, _card(context, step))


def _check_seen(folder: Path, written: Mapping[str, int]) -> None:
    """Waits until this process sees every file that some rank wrote, whole: on network storage a file may take a while
    to show. Raises RunError if one does not, as on another node's own disk."""
    deadline = time.monotonic() + SHARED_SECONDS
    for name, size in written.items():
        while not (folder / name).is_file() or (folder / name).stat().st_size < size:
            if time.monotonic() > deadline:
                there = "is only partly there" if (folder / name).is_file() else "is not there"
                raise RunError(
                    f"{folder / name} {there}: a learner's rank wrote it where this process does not see it. So the "
                    "checkpoint is not whole and is not kept; earlier ones are as they were. The run directory is "
                    "not shared: put it (run_dir=, runs_dir=) on storage that all nodes see"
                )
            time.sleep(0.2)


def _check_written(file: Path) -> None:
    _check_seen(file.parent, {file.name: 0})


def _card(context: Context[Any], step: int) -> ModelCard:
    """Returns the exported model's card, with the metrics of the evaluation at that step under their labels."""
    metrics = evaluation_metrics(context.run, step)
    labelled = tuple(
        (metric_line(name).label, value) for name, _, value in summary_rows({}, metrics) if value is not None
    )
    return ModelCard.of(context.config, step, labelled, context.run.read_versions())


def go_back(run: RunDirectory, checkpoint: Path, step: int, warn: Any) -> None:
    """Takes a run directory back to when the ``checkpoint`` of ``step`` was its newest one.

    Sets later checkpoints aside, which are damaged. Removes later evaluations and rollout tables, and the summary: they
    are made again. (The tracker of metrics.jsonl drops its later rows.)"""
    remove_leftovers(run.checkpoints)
    # This comes first: a pointer to a directory that is not there looks like a run without a checkpoint.
    point(run.checkpoints / "latest", checkpoint)
    for number, path in committed(run.checkpoints):
        if number > step:
            warn(f"checkpoint {path} is set aside as {set_aside(path).name}")
    for folder in (run.evaluations, run.rollouts):
        for number, path in numbered(folder, r"step_(\d+)\.[\w.]+"):
            if number > step:
                path.unlink()
    run.summary.unlink(missing_ok=True)
