"""Decides what is taken over from a directory's ``config.yaml``, which a stranger may have written.

A resumed run takes from it what is trained, and how. A setting that would import code, join a cluster, trust a model's
own code or send something away is taken over only if the command or its recipe names it again. Reading such a file
imports nothing. The list names what is taken over, so that somebody must decide about every new setting
(tests/config/test_stored.py).
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from carerl.config.reading.scalars import native
from carerl.errors import ConfigError, raise_all

TAKEN_OVER = (
    "recipe", "scale", "description", "kind", "seed", "steps", "prompts_per_step", "task", "algorithm", "regularizer",
    "reward", "decision", "anchor", "distillation", "preference", "model", "rollout", "reference", "grading", "judge",
    "learner", "sync", "evaluation", "decode", "checkpoint", "tracking", "cluster", "profile", "rehearse",
)  # fmt: skip
OWN_PLACE = ("runs_dir", "run_dir", "resume", "dry_run")  # of the command that goes on, and harmless: no path is made
HERE = ("", "auto", "local")  # addresses of Ray that no file could point elsewhere


def _leaves(config: Mapping[str, Any]) -> bool:
    """Returns whether the run's metrics leave the machine."""
    return bool(_value(config, "tracking.wandb") == "online")


# settings that a file may not decide by itself: whether the value is one that must be named, and what it would do
NAMED_AGAIN: dict[str, tuple[Callable[[Any, Mapping[str, Any]], bool], str]] = {
    "plugins": (lambda value, config: bool(value), "would import these modules"),
    "cluster.address": (lambda value, config: value not in HERE, "would join that Ray cluster and trust its answers"),
    "model.trust_remote_code": (lambda value, config: bool(value), "would run the code of the model's own directory"),
    "tracking.wandb": (lambda value, config: _leaves(config), "would send the run to W&B"),
    "tracking.wandb_entity": (lambda value, config: bool(value) and _leaves(config), "would send the run there"),
}


def as_recipe(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a recipe's settings without what a run itself writes down. So the ``config.yaml`` of a run, which alone
    names its ``recipe``, is a recipe as well: an empty ``scale`` is none, and the next run finds its end tokens itself.
    Raises ConfigError for a ``scale`` in the file."""
    whole = "recipe" in tree
    if scale := native(tree.get("scale")):
        reason = "it is for the command line: a recipe names the file among those that it extends"
        remedy = "write extends: [scale/NAME] in the recipe"
        if whole:
            reason = "the file is that of a run: what this scale set stands in its settings already"
            remedy = f"write scale: '' in the file, or the recipe's own name and scale={scale} in place of the file"
        raise ConfigError("scale", scale, reason, remedy)
    kept = {key: value for key, value in tree.items() if key != "scale"}
    if whole and isinstance(rollout := kept.get("rollout"), Mapping):
        kept["rollout"] = {key: value for key, value in rollout.items() if key != "end_ids"}
    return kept


def check_named(config: Mapping[str, Any], named: Callable[[], Mapping[str, Any]], folder: str) -> None:
    """Refuses settings that only the file of ``folder`` asks for. ``config``: the settings of the resumed run, nested.
    ``named``: gives those of the command and its recipe. Raises ConfigError, with all of them."""
    asking = [key for key, (matters, _) in NAMED_AGAIN.items() if matters(_value(config, key), config)]
    if not asking:
        return
    typed, refused = named(), []
    for key in asking:
        value = _value(config, key)
        if _value(typed, key) == value:
            continue
        refused.append(
            ConfigError(
                key,
                value,
                f"only {Path(folder) / 'config.yaml'} asks for it, which {NAMED_AGAIN[key][1]}; the file of a run "
                "that is resumed cannot decide this alone",
                f"if you mean it, write it in the command too: {_word(key, value)}",
            )
        )
    raise_all(refused)


def words_to_name(config: Mapping[str, Any]) -> list[str]:
    """Returns the words that a command needs, beside ``resume=``, to resume a run of these settings."""
    needed = [key for key, (matters, _) in NAMED_AGAIN.items() if matters(_value(config, key), config)]
    return [_word(key, _value(config, key)) for key in needed]


def command_to_go_on(run_dir: str | Path, config: Mapping[str, Any]) -> str:
    """Writes the command that resumes a run of these settings, as a shell reads it."""
    return "python -m carerl.run " + shlex.join([f"resume={run_dir}", *words_to_name(config)])


def has_checkpoint(run_dir: str | Path) -> bool:
    """Returns whether a run has committed a checkpoint. The pointer ``latest`` alone does not tell: a process may have
    been killed before it was set."""
    folder = Path(run_dir).expanduser() / "checkpoints"
    return os.path.exists(folder / "latest") or newest_checkpoint(run_dir) is not None


def newest_checkpoint(run_dir: str | Path) -> Path | None:
    """Returns the committed checkpoint of the largest step; None without one."""
    found = committed(Path(run_dir).expanduser() / "checkpoints")
    return found[-1][1] if found else None


def committed(checkpoints: Path) -> list[tuple[int, Path]]:
    """Returns (step, directory) of the checkpoints that were committed and kept, damaged since or not, in order of
    steps."""
    found = [(int(match[1]), path) for path in checkpoints.glob("step_*") if (match := STEP.fullmatch(path.name))]
    return [(step, path) for step, path in sorted(found) if os.path.isdir(path)]


STEP = re.compile(r"step_(\d+)")


def _value(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _word(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return f"{key}={str(value).lower()}"
    return f"{key}=[{','.join(map(str, value))}]" if isinstance(value, list) else f"{key}={value}"
