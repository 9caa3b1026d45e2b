"""Checkpoints that are whole or absent.

``checkpoints/step_000100/`` holds ``model/`` (an ordinary Hugging Face directory), ``learner/`` (model and
optimizer, sharded, torch's distributed format), ``state.json`` and ``manifest.json`` (SHA-256 of every
file). Commit order: temporary directory → files fsynced → manifest → fsync → rename → parent fsynced →
pointer ``latest``. A directory whose manifest does not hold is passed over for the one before.

Data position, learning rate and all random streams are functions of (seed, step), so the step is all of the loop's
state: there is no generator whose state would have to be kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from carerl.controller.context import Context, RunError

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
    context.crew.learner.export(partial / "model", context.tokenizer, config.model.dtype)
    for needed in ("learner/.metadata", "model/config.json", "model/model.safetensors"):
        if not (partial / needed).is_file():
            raise RunError(
                f"{partial / needed} is not there: the actors wrote the checkpoint where this process does not see it. "
                "Put the run directory (runs_dir=) on storage that all nodes share."
            )
    state = {
        "format": FORMAT,
        "step": step,
        "weight_version": step,
        "recipe": config.recipe,
        "seed": config.seed,
    }
    (partial / "state.json").write_text(json.dumps(state, indent=2) + "\n")
    commit(partial, final)
    _point_to(final)
    earlier = sorted(name for name in _complete_names(final.parent) if name < final.name)
    for old in earlier[: max(0, len(earlier) + 1 - config.checkpoint.keep)]:
        shutil.rmtree(final.parent / old)
    return final


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
    if final.exists():  # of a run that went back to an earlier checkpoint
        shutil.rmtree(final)
    os.rename(partial, final)
    _fsync_directory(final.parent)


def verify(directory: Path) -> str | None:
    """Why a checkpoint cannot be used, or None. Read before anything in it is unpickled."""
    try:
        manifest = json.loads((directory / "manifest.json").read_text())
        for name, digest in manifest.items():
            with open(directory / name, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                    return f"{name} does not match its checksum"
        state = json.loads((directory / "state.json").read_text())
    except (OSError, ValueError) as error:
        return str(error)
    if state.get("format") != FORMAT:
        return f"format {state.get('format')}, this version reads {FORMAT}"
    return None


def latest(checkpoints: Path, warn: Any) -> tuple[Path, dict[str, Any]]:
    """The newest checkpoint that is whole, and its state. Raises NoCheckpoint."""
    for name in sorted(_complete_names(checkpoints), reverse=True):
        directory = checkpoints / name
        problem = verify(directory)
        if problem is None:
            return directory, json.loads((directory / "state.json").read_text())
        warn(f"checkpoint {directory} is passed over: {problem}")
    raise NoCheckpoint(f"{checkpoints} holds no whole checkpoint")


def _complete_names(checkpoints: Path) -> list[str]:
    return [path.name for path in checkpoints.glob("step_*") if path.is_dir()]


def _point_to(final: Path) -> None:
    link = final.parent / "latest"
    temporary = final.parent / ".latest.partial"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(final.name)
    os.replace(temporary, link)


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
