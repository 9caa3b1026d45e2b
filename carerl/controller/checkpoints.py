"""Checkpoints that are whole or absent.

``checkpoints/step_000100/`` holds ``model/`` (an ordinary Hugging Face directory), ``learner/`` (model and
optimizer, sharded, torch's distributed format), ``state.json`` and ``manifest.json`` (SHA-256 of every other
file: one that it does not list is refused, like one that it lists wrongly, and so is a link). Commit order: temporary
directory → files fsynced → manifest → fsync → rename → parent fsynced → pointer ``latest``, which is there for people:
what a run goes on from is the newest directory whose manifest holds. One whose manifest does not is passed over for the
one before; the run that goes on from that one renames it to ``step_000100.damaged``.

A manifest tells damage, not intent: who can write a checkpoint's files can write its manifest too. What is read from
one is therefore read as data (:mod:`carerl.backends.learners.files`); that its numbers are those of the run nobody can
tell from the directory.

Learning rate and all random streams are functions of (seed, step): there is no generator whose state would have to be
kept. What else the loop knows, the data position among it, is :class:`carerl.runs.loop_state.LoopState`.
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
from carerl.controller import disk
from carerl.controller.context import Context
from carerl.metrics.table import metric_line, summary_rows
from carerl.runs.commit import FORMAT, commit, numbered, point, set_aside
from carerl.runs.directory import RunDirectory
from carerl.runs.model_card import ModelCard, describe_model
from carerl.runs.tables import evaluation_metrics
from carerl.types import RunError

SHARED_SECONDS = 30.0  # until a file that another node wrote has to be seen here: the caches of a network's storage


class SaveFailed(RunError):
    """A checkpoint could not be written; those before it are as they were."""


def save(context: Context[Any], step: int) -> Path:
    """Writes the checkpoint of ``step`` and removes those beyond ``checkpoint.keep``. Raises SaveFailed where it cannot
    be written, before it is begun where there is no room for it; nothing of it stays, and nothing earlier is removed.
    """
    final = context.run.checkpoint_dir(step)
    with whole_or_absent(context, f"the checkpoint of step {step}"):
        _check_room(context, step)
        _write(context, step, final)
    earlier = [path for number, path in committed(final.parent) if number < step]
    for old in earlier[: max(0, len(earlier) + 1 - context.config.checkpoint.keep)]:
        removed = old.with_name(f".{old.name}.removed")  # what is half removed is no checkpoint
        os.rename(old, removed)
        shutil.rmtree(removed, ignore_errors=True)  # what is held open yet goes the next time
    return final


@contextmanager
def whole_or_absent(context: Context[Any], what: str) -> Iterator[None]:
    """Removes what is left half written, from before and by what is done inside. Raises SaveFailed in place of what the
    file system, or an actor that met it, says."""
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
    """Removes what a killed process left half written or half removed. The caller holds the run's lock."""
    for pattern in (".step_*.partial", ".step_*.removed", ".best_*.partial"):
        for path in checkpoints.glob(pattern):
            shutil.rmtree(path, ignore_errors=True)


class _NoRoom(Exception):
    pass


def _check_room(context: Context[Any], step: int) -> None:
    place = context.run.path
    size, room = disk.needed(context.config, context.model_dir, place), disk.free(place)
    if room < size:
        raise _NoRoom(f"it takes about {disk.amount(size)}, and {disk.amount(room)} are free")


def _reason(context: Context[Any], error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    reason = f"{type(error).__name__}: {lines[-1].strip() if lines else 'without a message'}"
    if disk.is_full(error):
        reason = f"the disk is full, or a quota is used up ({reason})"
    return f"{reason}; {disk.amount(disk.free(context.run.path))} are free"


def _not_saved(context: Context[Any], what: str, reason: str) -> str:
    before = committed(context.run.checkpoints)
    kept = f"the one of step {before[-1][0]} is untouched" if before else "there is none before it"
    return (
        f"{what} could not be saved in {context.run.checkpoints}: {reason}. Of earlier ones "
        f"{kept}. Make room, then go on with: {command_to_go_on(context.run.path, plain(context.config))}"
    )


def _write(context: Context[Any], step: int, final: Path) -> None:
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
    """Raises RunError unless this process sees every file that some rank wrote, whole: a name may take a while to show
    on storage of a network, but one on a node's own disk never does."""
    deadline = time.monotonic() + SHARED_SECONDS
    for name, size in written.items():
        while not (folder / name).is_file() or (folder / name).stat().st_size < size:
            if time.monotonic() > deadline:
                there = "is there in part" if (folder / name).is_file() else "is not there"
                raise RunError(
                    f"{folder / name} {there}: a learner's rank wrote it where this process does not see it, so that "
                    "the checkpoint is not whole and is not kept; earlier ones are as they were. The run directory is "
                    "not shared: put it (run_dir=, runs_dir=) on storage that all nodes see"
                )
            time.sleep(0.2)


def _check_written(file: Path) -> None:
    _check_seen(file.parent, {file.name: 0})


def _card(context: Context[Any], step: int) -> ModelCard:
    """The exported model's card, with the metrics of the evaluation at that step as tables name them."""
    metrics = evaluation_metrics(context.run, step)
    labelled = tuple(
        (metric_line(name).label, value) for name, _, value in summary_rows({}, metrics) if value is not None
    )
    return ModelCard.of(context.config, step, labelled, context.run.read_versions())


def go_back(run: RunDirectory, checkpoint: Path, step: int, warn: Any) -> None:
    """Leaves a run directory as it was when the ``checkpoint`` of ``step`` was its newest one.

    Later checkpoints, which are damaged, are set aside. Evaluations, rollout tables and the summary of what came
    after are removed, as they are made again (the rows of metrics.jsonl are dropped by its tracker)."""
    remove_leftovers(run.checkpoints)
    # First: a pointer to a directory that is not there looks like a run without a checkpoint.
    point(run.checkpoints / "latest", checkpoint)
    for number, path in committed(run.checkpoints):
        if number > step:
            warn(f"checkpoint {path} is set aside as {set_aside(path).name}")
    for folder in (run.evaluations, run.rollouts):
        for number, path in numbered(folder, r"step_(\d+)\.[\w.]+"):
            if number > step:
                path.unlink()
    run.summary.unlink(missing_ok=True)
