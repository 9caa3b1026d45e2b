"""Makes what a W&B run holds beside its metrics: how it is filed, code and recipe, rollout tables.

Everything is made from the run directory, so that a resumed run can be logged again from it. Every text is redacted;
a source file with a secret in it is left out and named.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from carerl.config.load import load
from carerl.config.reading import compose
from carerl.config.reading.typed import plain
from carerl.errors import ConfigError
from carerl.runs.directory import PACKAGES, RunDirectory
from carerl.runs.find import settings_of
from carerl.runs.redaction import public_config
from carerl.runs.tables import read_rollouts
from carerl.text.redaction import redact_text, without_tokens

PACKAGE = Path(__file__).resolve().parents[1]
SOURCE_ENDINGS = (".py", ".typed", ".j2", ".css", ".js", ".html")
RECIPE_FOLDER = "recipes"
FILE_BYTES = 512 * 1024  # a larger file is no source
CODE_BYTES = 8 * 1024 * 1024  # of all of them
TEXT_CHARACTERS = 2_000  # of a prompt or response in a table
TAG_CHARACTERS = 64  # W&B's limit
NAME_CHARACTERS = 128  # of a group's and of a run's name
METHOD = "method"  # in a run's config: what method() returns
TABLE_COLUMNS = (
    "step", "example_id", "sample", "prompt", "response", "gold", "answer", "outcome", "correct", "reward",
    "advantage", "confidence", "tokens", "mean_logprob",
)  # fmt: skip


@dataclass(frozen=True)
class WandbSettings:
    """Says how a run is logged: ``mode`` is offline or online; ``entity`` is the user or team, empty for the key's own.

    Beside the metrics go ``rollout_rows`` rows of each rollout table (0: none, and no completion leaves), with
    ``checkpoint`` the last checkpoint's model, and what ``pictures`` draws of each evaluation (PNG by suite)."""

    mode: str
    project: str
    entity: str = ""
    rollout_rows: int = 0
    checkpoint: bool = False
    pictures: Callable[[Path], Mapping[str, bytes]] = lambda evaluation: {}


@dataclass(frozen=True)
class Filing:
    """Says where W&B shows a run: seeds and regularizers of one family stand in one group."""

    group: str
    job_type: str
    tags: tuple[str, ...]


def filing(config: Mapping[str, Any]) -> Filing:
    """Files a run. Group: the recipe's family, which is its name without the regularizer's part; job type: the
    regularizer; tags: recipe, algorithm and seed.

    >>> filing({"recipe": "care_grpo_tiny", "seed": 3, "algorithm": {"name": "grpo"}, "regularizer": {"name": "srkl"}})
    Filing(group='grpo_tiny', job_type='srkl', tags=('care_grpo_tiny', 'grpo', 'seed 3'))
    """
    recipe, seed = str(config.get("recipe") or ""), config.get("seed")
    algorithm, regularizer = _name(config.get("algorithm")), _name(config.get("regularizer"))
    match = re.search(rf"(?:^|_)({re.escape(algorithm)}(?:_.*)?)$", recipe) if algorithm else None
    tags = (recipe, algorithm, "" if seed is None else f"seed {seed}")
    return Filing(
        group=(match[1] if match else recipe)[:NAME_CHARACTERS],
        job_type=regularizer or str(config.get("kind") or ""),
        tags=tuple(dict.fromkeys(tag[:TAG_CHARACTERS] for tag in tags if tag)),
    )


def _name(section: Any) -> str:
    return str(section.get("name") or "") if isinstance(section, Mapping) else ""


def run_config(config: Mapping[str, Any], directory: RunDirectory) -> dict[str, Any]:
    """Returns the settings that may leave, under ``method`` what :func:`method` makes of them, and under ``versions``
    what the run ran on: packages, Python, commit."""
    found = directory.read_versions()
    names = ("python", *PACKAGES, "commit", "dirty")
    versions = {name: found[name] for name in names if found.get(name) is not None}
    return public_config(config) | {METHOD: method(config), "versions": versions}


def method(config: Mapping[str, Any]) -> str:
    """Returns the recipe and the settings that depart from it, without the seed: the same for the runs of one method,
    and different for two arms of a sweep. Of a recipe that cannot be read again, its name alone.

    >>> method({"recipe": "calibration_aware_tiny", "seed": 3, "decision": {"name": "ce", "target": "gold"}})
    'calibration_aware_tiny decision.target=gold'
    """
    recipe, own = str(config.get("recipe") or ""), settings_of(public_config(config))
    try:
        asked = settings_of(public_config(plain(load([f"recipe={recipe}"]))))
    except ConfigError:
        return recipe
    changed = [f"{name}={value}" for name, value in own.items() if name in asked and asked[name] != value]
    return " ".join([recipe, *changed])


def source_files() -> tuple[dict[str, Path], list[str]]:
    """Returns the package's own source (name inside the artifact -> file), and what was left out, with the reason. In
    a checkout these are the files that git tracks, else the source files of the installed package."""
    tracked = _tracked(PACKAGE)
    files = sorted(PACKAGE.rglob("*") if tracked is None else tracked)
    return _bounded({path.relative_to(PACKAGE.parent).as_posix(): path for path in files if _is_source(path)})


def _is_source(path: Path) -> bool:
    return path.suffix in SOURCE_ENDINGS and "__pycache__" not in path.parts and path.is_file()


def recipe_files(name: str) -> dict[str, Path]:
    """Returns a recipe and what it extends: name inside the artifact -> file. Only files that came with the package or
    that git tracks are taken; the resolved settings say what any other one asked for. Empty for an unknown recipe."""
    folders = compose.recipe_folders()
    found: dict[str, Path] = {}
    todo = [name] if name else []
    while todo:
        part = todo.pop()
        try:
            path, tree = compose.find(part), compose.read_file(part)
        except ConfigError:
            continue
        if f"{RECIPE_FOLDER}/{part}.yaml" in found:
            continue
        folder = next(folder for folder in folders if path.is_relative_to(folder))
        if path.is_relative_to(PACKAGE) or path.resolve() in (_tracked(folder) or ()):
            found[f"{RECIPE_FOLDER}/{part}.yaml"] = path
        extends = tree.get("extends") or []
        todo += [extends] if isinstance(extends, str) else list(extends)
    return dict(sorted(found.items()))


def recipe_texts(config: Mapping[str, Any]) -> dict[str, str]:
    """Returns the recipe artifact: the files of :func:`recipe_files`, and the run's settings as ``config.yaml``."""
    files = recipe_files(str(config.get("recipe") or ""))
    texts = {name: redact_text(path.read_text(encoding="utf-8")) for name, path in files.items()}
    return texts | {"config.yaml": yaml.safe_dump(public_config(config), sort_keys=False, allow_unicode=True)}


def _tracked(folder: Path) -> set[Path] | None:
    """Returns the files below ``folder`` that git tracks; None where it is not in a checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), "ls-files", "-z"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = {(folder / name).resolve() for name in done.stdout.split("\0") if name}
    return found or None


def _bounded(files: Mapping[str, Path]) -> tuple[dict[str, Path], list[str]]:
    """Returns the files that may go, and the others with the reason: files must be small, also together, and hold no
    secret."""
    kept: dict[str, Path] = {}
    left_out: list[str] = []
    total = 0
    for name, path in files.items():
        size = path.stat().st_size
        if size > FILE_BYTES or total + size > CODE_BYTES:
            left_out.append(f"{name} (too large)")
        elif without_tokens(text := path.read_text(encoding="utf-8", errors="replace")) != text:
            left_out.append(f"{name} (it holds a secret)")
        else:
            kept[name] = path
            total += size
    return kept, left_out


def rollout_table(path: Path, rows: int) -> tuple[list[str], list[list[Any]]]:
    """Returns columns and the first ``rows`` rows of a step's rollouts, long texts cut."""
    table = [[_cell(row.get(name)) for name in TABLE_COLUMNS] for row in read_rollouts(path)[:rows]]
    return list(TABLE_COLUMNS), table


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = redact_text(value)
    return text if len(text) <= TEXT_CHARACTERS else f"{text[:TEXT_CHARACTERS]} … ({len(text):,} characters)"


def artifact_name(*parts: str) -> str:
    """Joins the parts to a name that W&B takes for an artifact.

    >>> artifact_name("model", "care grpo/tiny")
    'model-care_grpo_tiny'
    """
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(parts))[:128]
