"""Writes checkpoints that are whole or absent.

``checkpoints/step_000100/`` holds ``model/`` (an ordinary Hugging Face directory), ``learner/`` (model and optimizer,
sharded: torch's distributed format, or safetensors of deepspeed's ranks; that of step 0 has none), ``state.json`` and
``manifest.json`` (SHA-256 of every other file). A file that the manifest does not list, or lists with another sum,
makes the checkpoint invalid, and so does a link.

Writing goes on beside training. :func:`begin` has the ranks copy what they save to host memory, and the state of the
loop is taken down at the same moment. The ranks then write and hash their files while the next steps are taken; no file
of weights is read back. Between two steps :func:`poll` looks whether they have ended, and then commits. At the end of a
run, at a stop, before the next checkpoint and before the best model is kept, :func:`finish` waits for it. Until the
commit there is no such checkpoint: a run that is killed meanwhile is resumed from the one before.

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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from carerl.actors.health.failures import ActorFailed, ActorRaised
from carerl.backends.hashed import Written
from carerl.config.reading.typed import plain
from carerl.config.stored import command_to_go_on, committed
from carerl.config.stored_weights import ADAPTER
from carerl.controller.context import Context, Unfinished
from carerl.controller.ending import disk
from carerl.metrics.table import metric_line, summary_rows
from carerl.runs.commit import FORMAT, commit, numbered, point, set_aside
from carerl.runs.directory import RunDirectory
from carerl.runs.model_card import ModelCard, describe_model
from carerl.runs.rounds import forget_rounds
from carerl.runs.tables import evaluation_metrics
from carerl.types import RunError

SHARED_SECONDS = 30.0  # in which a file that another node wrote must be seen here: network storage has caches


class SaveFailed(RunError):
    """Says that a checkpoint could not be written. Earlier checkpoints are as they were."""


def begin(context: Context[Any], step: int, kept: Callable[[], object] = lambda: None) -> None:
    """Begins the checkpoint of ``step``: waits for an earlier one, then returns once the learner's state is copied.
    ``kept`` is called when the checkpoint is there.

    Raises SaveFailed if the earlier one could not be written, or if there is no room for this one."""
    finish(context)
    final, config = context.run.checkpoint_dir(step), context.config
    partial = _partial(final)
    what, card = f"the checkpoint of step {step}", _card(context, step)
    state = {
        "format": FORMAT,
        "step": step,
        "weight_version": step,
        "recipe": config.recipe,
        "seed": config.seed,
        "loop": asdict(context.loop),
    }
    remove_leftovers(context.run.checkpoints)
    with whole_or_absent(context, what):
        _check_room(context)
        partial.mkdir(parents=True)
        (partial / "state.json").write_text(json.dumps(state, indent=2) + "\n")
        learner, model = context.crew.learner, (partial / "model", context.tokenizer, config.model.dtype)
        # Before the first step there is no state of an optimizer. To ask torch for it would make one that has counted a
        # step; and a run that goes on from there reads nothing of the learner's.
        writing = learner.save(partial / "learner", *model) if step else learner.begin_export(*model)

    def appear(written: Mapping[str, Written]) -> None:
        commit(partial, final, _seen(context, partial, written, card))
        point(context.run.checkpoints / "latest", final)

    def go_on() -> None:
        _prune(context, step)
        kept()

    context.unfinished = Unfinished(what, writing, appear, go_on)


def begun(context: Context[Any], step: int) -> bool:
    """Returns True if the checkpoint of ``step`` is there, or is being written."""
    final = context.run.checkpoint_dir(step)
    return final.is_dir() or (context.unfinished is not None and _partial(final).is_dir())


def _partial(final: Path) -> Path:
    return final.with_name(f".{final.name}.partial")


def poll(context: Context[Any]) -> None:
    """Commits the checkpoint that was begun, if all of it is written; does not wait. Raises SaveFailed if it cannot be
    written. Called between steps."""
    if context.unfinished is not None and context.unfinished.writing.ended():
        finish(context)


def finish(context: Context[Any]) -> None:
    """Waits for the checkpoint that was begun, if there is one, commits it, then removes the oldest ones beyond
    ``checkpoint.keep``. Raises SaveFailed if it cannot be written; then nothing of it stays, and no earlier one is
    removed."""
    unfinished, context.unfinished = context.unfinished, None
    if unfinished is not None:
        with whole_or_absent(context, unfinished.what):
            unfinished.commit(unfinished.writing.files())
        unfinished.kept()


@contextmanager
def rescued(context: Context[Any]) -> Iterator[None]:
    """Finishes the checkpoint that was begun, if the block fails: what ended the run need not have harmed it. The error
    of the block is raised in any case."""
    try:
        yield
    except Exception as error:
        try:
            finish(context)
        except ActorFailed:
            pass  # an actor that has died is what ended the run, or is about to be told
        except Exception as failed:
            error.add_note(str(failed))
        raise


def _prune(context: Context[Any], step: int) -> None:
    """Removes the oldest checkpoints before ``step``, beyond those that are kept."""
    earlier = [path for number, path in committed(context.run.checkpoints) if number < step]
    for old in earlier[: max(0, len(earlier) + 1 - context.config.checkpoint.keep)]:
        removed = old.with_name(f".{old.name}.removed")  # so that a half removed directory is no checkpoint
        os.rename(old, removed)
        shutil.rmtree(removed, ignore_errors=True)  # files that are still open are removed the next time


@contextmanager
def whole_or_absent(context: Context[Any], what: str) -> Iterator[None]:
    """Removes a half written directory that the block leaves if it fails. Turns errors of the file system, also of an
    actor that met one, into SaveFailed. ``what``: what is saved, in words."""
    try:
        yield
    except _NoRoom as error:
        raise SaveFailed(_not_saved(context, what, str(error), full=True)) from None
    except ActorRaised as error:
        remove_leftovers(context.run.checkpoints)
        log = f"; log: {error.log}" if error.log else ""
        said = f"{error.where}: {error.cause}{log}"
        failed = SaveFailed(_not_saved(context, what, _reason(context, error, said), disk.is_full(error)))
        failed.exit_code = error.exit_code
        raise failed from error
    except RunError:
        remove_leftovers(context.run.checkpoints)
        raise
    except Exception as error:
        remove_leftovers(context.run.checkpoints)
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = f"{type(error).__name__}: {lines[-1] if lines else 'without a message'}"
        raise SaveFailed(_not_saved(context, what, _reason(context, error, said), disk.is_full(error))) from error


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


def _reason(context: Context[Any], error: Exception, said: str) -> str:
    """Returns in a line why saving failed, and how much room there is. ``said``: what the error says."""
    if disk.is_full(error):
        said = f"the disk is full, or a quota is used up ({said})"
    return f"{said}; {disk.amount(disk.free(context.run.path))} are free"


def _not_saved(context: Context[Any], what: str, reason: str, full: bool) -> str:
    """Returns the message about a checkpoint that could not be saved. ``full``: True where room is what it lacks."""
    before = committed(context.run.checkpoints)
    kept = f"The checkpoint of step {before[-1][0]} is untouched" if before else "There is no earlier checkpoint"
    return (
        f"{what} could not be saved in {context.run.checkpoints}: {reason}. {kept}. "
        f"{'Make room' if full else 'Mend the cause'}, then resume with: "
        f"{command_to_go_on(context.run.path, plain(context.config))}"
    )


def export(context: Context[Any], directory: Path, step: int) -> dict[str, str]:
    """Writes the weights as an ordinary Hugging Face directory ``model`` in ``directory``, with a card; returns the
    SHA-256 of the files that it wrote, by their names in ``directory``. Waits for it."""
    written = context.crew.learner.export(directory / "model", context.tokenizer, context.config.model.dtype)
    return _seen(context, directory, written, _card(context, step))


def _seen(context: Context[Any], directory: Path, written: Mapping[str, Written], card: ModelCard) -> dict[str, str]:
    """Waits until this process sees what the ranks wrote into ``directory``, and puts the card beside the model in it.
    Returns the SHA-256 of the ranks' files, by their names in ``directory``."""
    files = {Path(path).relative_to(directory).as_posix(): file for path, file in written.items()}
    config = ADAPTER if context.config.learner.lora.apart else "config.json"
    _check_seen(directory, {name: file.size for name, file in files.items()} | {f"model/{config}": 0})
    describe_model(directory / "model", card)
    return {name: file.sha256 for name, file in files.items()}


def _check_seen(folder: Path, written: Mapping[str, int]) -> None:
    """Waits until this process sees every file that some rank wrote, with its size in bytes: on network storage a file
    may take a while to show. Raises RunError if one does not, as on another node's own disk."""
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


def _card(context: Context[Any], step: int) -> ModelCard:
    """Returns the exported model's card, with the metrics of the evaluation at that step under their labels."""
    metrics = evaluation_metrics(context.run, step)
    labelled = tuple(
        (metric_line(name).label, value) for name, _, value in summary_rows({}, metrics) if value is not None
    )
    return ModelCard.of(context.config, step, labelled, context.run.read_versions())


def go_back(run: RunDirectory, checkpoint: Path, step: int, warn: Any) -> None:
    """Takes a run directory back to when the ``checkpoint`` of ``step`` was its newest one.

    Sets later checkpoints aside, which are damaged. Removes later evaluations, rollout tables and rounds, and the
    summary: they are made again. (The tracker of metrics.jsonl drops its later rows.)"""
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
    forget_rounds(run, step)
    run.summary.unlink(missing_ok=True)
