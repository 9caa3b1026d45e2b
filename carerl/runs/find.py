"""Finds runs on disk and reads what a comparison needs of each."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from carerl.runs.directory import RunDirectory, numbers
from carerl.runs.sweep_file import SWEEP_FILE
from carerl.runs.tables import read_evaluations
from carerl.tasks import TASKS

# settings that say where and how a run is watched, not what it computes
IGNORED = (
    "recipe",
    "description",
    "seed",
    "runs_dir",
    "run_dir",
    "resume",
    "dry_run",
    "profile",
    "plugins",
    "tracking",
    "checkpoint",
    "cluster",
)
IGNORED_ENDINGS = (".threads", ".cpus_per_actor", ".cpus_per_rank", ".seed")
BASE_FIELDS = ("task", "model", "evaluation")
SWEPT = ("regularizer.alpha", "regularizer.beta", "anchor.weight")  # the position along a family's frontier
IN_DOMAIN, OUT_OF_DOMAIN = "in domain", "out of domain"


@dataclass(slots=True)
class Run:
    """Holds one run as a comparison sees it. ``unfinished`` is empty for a finished run, else the reason.

    ``versions``: what the run ran on. For an evaluation of a checkpoint inside a run, recipe, seed and settings are
    that run's, and ``trained_in`` is its directory."""

    path: Path
    recipe: str
    seed: int
    config: dict[str, Any]
    settings: dict[str, Any]  # flat, of the whole config but what IGNORED names
    base: dict[str, float]
    final: dict[str, float]
    started: str
    unfinished: str = ""
    versions: dict[str, Any] = field(default_factory=dict)
    trained_in: Path | None = None

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def code(self) -> str:
        """Version and commit of the code that it ran on; ``+`` where that had uncommitted changes."""
        version, commit = self.versions.get("carerl") or "", str(self.versions.get("commit") or "")[:10]
        changed = "+" if self.versions.get("dirty") else ""
        return " ".join(part for part in (str(version), f"{commit}{changed}" if commit else "") if part) or "unknown"

    @property
    def regularizer(self) -> str:
        return str(self.settings.get("regularizer.name", ""))

    @property
    def group_key(self) -> tuple[Any, ...]:
        return (self.recipe, *sorted((name, repr(value)) for name, value in self.settings.items()))

    @property
    def alpha(self) -> float | None:
        return _number(self.settings.get("regularizer.alpha"))

    @property
    def beta(self) -> float | None:
        return _number(self.settings.get("regularizer.beta"))

    @property
    def weight(self) -> float | None:
        """The weight of anchors; None for a run without any."""
        anchored = self.settings.get("anchor.name", "none") != "none"
        return _number(self.settings.get("anchor.weight")) if anchored else None

    @property
    def family_settings(self) -> dict[str, Any]:
        """All settings but those that move a run along its family's frontier."""
        return {name: value for name, value in self.settings.items() if name not in SWEPT}

    @property
    def family_key(self) -> tuple[Any, ...]:
        return tuple(sorted((name, repr(value)) for name, value in self.family_settings.items()))

    @property
    def base_settings(self) -> dict[str, Any]:
        return {name: v for name, v in self.settings.items() if name.split(".")[0] in BASE_FIELDS}

    @property
    def base_key(self) -> tuple[Any, ...]:
        return tuple(sorted((name, repr(value)) for name, value in self.base_settings.items()))

    @property
    def setting(self) -> tuple[Any, ...]:
        """Algorithm, task and model: what a fair baseline shares."""
        chosen = {
            k: v for k, v in self.settings.items() if k == "algorithm.name" or k.split(".")[0] in ("task", "model")
        }
        return tuple(sorted((name, repr(value)) for name, value in chosen.items()))


def find_runs(arguments: Sequence[str]) -> list[Path]:
    """Returns the run directories behind the arguments: each is a run, a pattern, or a directory with runs below it.

    They come in the order given, each run once. Raises FileNotFoundError for an argument that leads to none.
    """
    found: dict[Path, None] = {}
    for argument in arguments:
        paths = [Path(argument)] if Path(argument).exists() else [Path(p) for p in sorted(glob.glob(argument))]
        below = [run for path in paths for run in _runs_below(path)]
        if not below:
            raise FileNotFoundError(
                f"{argument}: no run found there (a run is a directory with config.yaml or summary.json)"
                if paths
                else f"{argument}: no such file or directory"
            )
        found.update(dict.fromkeys(run.resolve() for run in below))
    return list(found)


def find_sweeps(arguments: Sequence[str]) -> list[Path]:
    """Returns the sweep directories among the arguments and below them. The sweep around a run that is named by itself
    does not count: nobody asked about its other cells."""
    found: dict[Path, None] = {}
    for argument in arguments:
        paths = [Path(argument)] if Path(argument).exists() else [Path(p) for p in sorted(glob.glob(argument))]
        for path in paths:
            for root, directories, files in os.walk(path):
                if _is_run(Path(root)):
                    directories.clear()
                elif SWEEP_FILE in files:
                    found[Path(root).resolve()] = None
    return sorted(found)


def read_run(path: Path) -> Run:
    """Reads config.yaml and summary.json. It never raises for what is missing, but says so in ``unfinished``."""
    directory = RunDirectory(path)
    config, unfinished = {}, ""
    try:
        config = directory.read_config()
    except Exception as error:  # a broken file is the run's fault, not the comparison's
        unfinished = f"config.yaml cannot be read ({type(error).__name__})"
    summary = directory.read_summary()
    evaluations = read_evaluations(directory.evaluations)
    last = evaluations[-1] if evaluations else {}
    alone = "evaluate" in (config.get("kind"), (summary or {}).get("kind"))
    final = (summary or {}).get("final") or numbers(last.get("metrics") if alone else None)
    if not unfinished:
        if not config:
            unfinished = "no config.yaml"
        elif summary is None:
            unfinished = "no summary.json: it has not finished"
        elif summary.get("status") != "completed":
            unfinished = f"status {summary.get('status')}"
        elif not final:
            unfinished = "no final evaluation"
    summary = summary or {}
    seed = config.get("seed", summary.get("seed"))
    run = Run(
        path=path,
        recipe=str(config.get("recipe") or summary.get("recipe") or path.name),
        seed=seed if isinstance(seed, int) else -1,
        config=config,
        settings=settings_of(config),
        base={} if alone else dict(summary.get("base") or {}),  # what is evaluated by itself has no before
        final=final,
        started=_started(path),
        unfinished=unfinished,
        versions=directory.read_versions(),
    )
    if alone:
        _take_over_training(run)
    return run


def read_intervals(evaluation: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """Returns an evaluation's intervals, by metric. A metric without an interval has null ends, and is left out."""
    found = {}
    for name, ends in (evaluation.get("intervals") or {}).items():
        numbers = [_number(end) for end in ends] if isinstance(ends, Sequence) else []
        if len(numbers) == 2 and numbers[0] is not None and numbers[1] is not None:
            found[str(name)] = (numbers[0], numbers[1])
    return found


def domains(config: Mapping[str, Any], suites: Sequence[str]) -> dict[str, str]:
    """Returns "in domain" or "out of domain" for each suite: whether it is of the data set that the model was trained
    on. Empty if that is not known. ``config``: a run's settings, or those of an evaluation of one of its checkpoints,
    nested."""
    trained = _trained_in(config) if config.get("kind") == "evaluate" else None
    task = (config if trained is None else RunDirectory(trained).read_config()).get("task") or {}
    entry = TASKS.get(str(task.get("name")))
    own = entry.trained_suites(task) if entry else frozenset()
    return {suite: IN_DOMAIN if suite in own else OUT_OF_DOMAIN for suite in suites} if own else {}


def _model_path(config: Mapping[str, Any]) -> str:
    model = config.get("model")
    return str((model if isinstance(model, str) else (model or {}).get("path")) or "")


def _trained_in(config: Mapping[str, Any]) -> Path | None:
    """Returns the directory of the run that the model of these settings is a checkpoint of; None for any other."""
    place = Path(_model_path(config)).expanduser()
    if not _model_path(config) or not place.exists():
        return None
    return next((above for above in place.resolve().parents if (above / "config.yaml").is_file()), None)


def _take_over_training(run: Run) -> None:
    """Names an evaluation by what it evaluated: the run that a checkpoint lies in, or else the model. So evaluations of
    one recipe's seeds make one row."""
    named = _model_path(run.config)
    if not named:
        return
    place = Path(named).expanduser()
    directory = place.resolve()
    trained = _trained_in(run.config)
    if trained is None:
        run.recipe = str(run.config.get("recipe") or (place.name if place.is_absolute() or place.exists() else named))
        return
    config = RunDirectory(trained).read_config()
    own = {name: value for name, value in run.settings.items() if name.split(".")[0] not in ("model", "kind")}
    settings = {name: v for name, v in settings_of(config).items() if name.split(".")[0] not in ("evaluation", "kind")}
    run.recipe = str(config.get("recipe") or trained.name)
    run.seed = config["seed"] if isinstance(config.get("seed"), int) else run.seed
    # which of the run's checkpoints: two of them are two methods, not one repeated
    run.settings = {**settings, **own, "model.checkpoint": directory.relative_to(trained).as_posix()}
    run.trained_in = trained


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested mappings as one, with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that say what a run computes, flat. ``config``: all of them, nested."""
    flat = {
        name: value
        for name, value in flatten(config).items()
        if name.split(".")[0] not in IGNORED and (not name.endswith(IGNORED_ENDINGS) or name == "evaluation.seed")
    }
    if flat.get("model.base_recipe"):
        flat.pop("model.path", None)  # where the base made for this seed is cached
    return flat


def _started(path: Path) -> str:
    """Returns the time in the directory's name, which sorts as text. For another name, when its config was written."""
    parts = path.name.rsplit("-", 3)
    if len(parts) == 4 and parts[1].isdigit() and parts[2].isdigit():
        return f"{parts[1]}-{parts[2]}"
    config = path / "config.yaml"
    return f"{config.stat().st_mtime:020.3f}" if config.exists() else ""


def _runs_below(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    if _is_run(path):
        return [path]
    found = []
    for root, directories, _ in os.walk(path):
        directories.sort()
        runs = [name for name in directories if _is_run(Path(root, name))]
        found += [Path(root, name) for name in runs]
        directories[:] = [name for name in directories if name not in runs]
    return found


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _is_run(path: Path) -> bool:
    return (path / "config.yaml").is_file() or (path / "summary.json").is_file()
