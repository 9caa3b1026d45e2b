"""Records which weights a run started from, so that it is not resumed from others.

``base_model.json`` in the run directory holds the record. The starting weights are the reference policy as well, so
that a run resumed from others would be another run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from carerl.config.schema import RunConfig
from carerl.config.shapes import looks_local
from carerl.controller.models.base_model import base_directory
from carerl.errors import ConfigError
from carerl.runs.files import read_json, write_text

RECORD = "base_model.json"
LARGE = 2**30  # bytes of a file beyond which only samples of it are read
SAMPLES, SAMPLE_BYTES = 64, 2**20


def identity(model_dir: str, revision: str = "") -> str:
    """Returns what identifies starting weights: ``sha256:…`` over config.json and the safetensors files of a directory,
    ``hub:owner/name@commit``, or '' for a model made from nothing."""
    if not model_dir or not looks_local(model_dir):
        return f"hub:{model_dir}{revision and '@'}{revision}" if model_dir else ""
    folder = Path(model_dir).expanduser()
    digest = hashlib.sha256()
    for path in [folder / "config.json", *sorted(folder.glob("*.safetensors"))]:
        digest.update(f"{path.name} {path.stat().st_size} {_file_digest(path)}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def _file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file. Of a large one, reads only samples, spread evenly from its beginning, where a
    safetensors file has its header, to its end."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        if size <= LARGE:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256()
        for number in range(SAMPLES):
            file.seek((size - SAMPLE_BYTES) * number // (SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()


def record(run_dir: Path, model_dir: str, revision: str = "") -> None:
    """Writes down what a run starts from, once: resuming the run does not change it."""
    if model_dir and not (run_dir / RECORD).exists():
        facts = {"model": model_dir, "identity": identity(model_dir, revision)}
        write_text(run_dir / RECORD, json.dumps(facts, indent=2) + "\n")


def same(one: str | Path, other: str | Path) -> bool:
    """Returns True if two runs are known to have started from the same weights."""
    first, second = _recorded(one), _recorded(other)
    return first is not None and second is not None and first["identity"] == second["identity"] != ""


def differs(run_dir: str | Path, model_dir: str) -> bool:
    """Returns True if a directory's weights are known not to be those that a run started from."""
    recorded = _recorded(run_dir)
    return recorded is not None and recorded["identity"] not in (identity(model_dir), "")


def check_recipe(base: RunConfig, run_dir: str | Path, remedy: str) -> None:
    """Refuses to resume a run whose base recipe would make another base model now. Builds no model to find out.

    A base model of another key passes if it is in the cache and has the very weights that the run started from: then
    the code has changed, and no number. ``base``: the settings that make the base model now. Raises ConfigError.
    """
    recorded = _recorded(run_dir)
    if recorded is None:
        return
    place, then = base_directory(base), Path(recorded["model"]).name
    if place.name != then and not (place.exists() and identity(str(place)) == recorded["identity"]):
        raise ConfigError(
            "model.base_recipe",
            base.recipe,
            f"it makes the base model {place.name} now, and the run in {run_dir} started from {then}: the recipe or "
            "the task's source has changed since",
            f"{remedy}; or make the base model with recipe={base.recipe} and resume again: if its weights are those of "
            "the run's start, the run resumes",
        )


def check_unchanged(config: RunConfig, run_dir: str | Path, model_dir: str, say: Callable[[str], None] = print) -> None:
    """Refuses to resume a run from other starting weights than it began with. Nothing can be checked for a run of an
    earlier version, which has no record or one without a commit, nor for one whose record is damaged: then calls
    ``say``. Raises ConfigError."""
    recorded, file = _recorded(run_dir), Path(run_dir).expanduser() / RECORD
    if recorded is None:
        fault = "cannot be read" if file.exists() else "is not there (the run is of an earlier version)"
        say(f"{file} {fault}: it is not checked whether the starting weights are those of the run's start")
        return
    now, then = identity(model_dir, config.model.revision), recorded["identity"]
    if then == f"hub:{model_dir}" and now.startswith(f"{then}@"):
        say(f"{file} names no commit of {model_dir} (the run is of an earlier version): the hub's newest is taken")
        return
    if now != then:
        raise ConfigError(
            "model.base_recipe" if config.model.base_recipe else "model.path",
            model_dir,
            f"its weights are not those that the run in {run_dir} started from ({then[:23]}… then, {now[:23]}… now), "
            "which are its reference policy as well",
            "put back the model that was there, or start a new run without resume=",
        )


def _recorded(run_dir: str | Path) -> dict[str, str] | None:
    """Returns a run's record; None if there is none, or if it is damaged."""
    found = read_json(Path(run_dir).expanduser() / RECORD) or {}
    return found if isinstance(found.get("model"), str) and isinstance(found.get("identity"), str) else None
