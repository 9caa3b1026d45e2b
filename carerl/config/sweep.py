"""Sweep specs, and what a cell's directory says about the settings it was run with.

``recipes/sweeps/NAME.yaml`` lists the rows of a comparison, each the words of a command line. ``settings`` has the
words that all rows share, ``published`` names the paper whose figures stand beside ours
(:mod:`carerl.config.published`).
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carerl.config.load import read, settings_key
from carerl.config.published import read_published
from carerl.config.reading.compose import find, leaves, read_yaml, recipe_folders, recipe_names
from carerl.config.reading.scalars import native, quoted_word
from carerl.config.reading.typed import plain
from carerl.config.schema import RunConfig
from carerl.errors import SURE, ConfigError, nearest, shown, suggestion
from carerl.tasks.benchmarks.config import TextConfig

# what the sweep itself sets, and what only says where a run lies or is watched
NOT_COMPARED = (
    "description", "run_dir", "runs_dir", "resume", "dry_run", "profile", "tracking.display", "cluster.address",
    "rollout.threads", "reference.threads", "learner.threads",
    "rollout.end_ids",  # found by the run, and asked for by nobody
)  # fmt: skip
FOUND_AT_START = ("model.revision", "task.hub_revisions")  # compared where they are asked for
NAMED = 3  # differing settings that a message names
ABSENT = "(not set)"


def sweep_names() -> list[str]:
    return sorted({path.stem for folder in recipe_folders() for path in (folder / "sweeps").glob("*.yaml")})


@dataclass(frozen=True)
class Spec:
    """Holds what a sweep is asked to run. ``rows``: the words of command lines. ``shared``: further words of every
    row. ``published``: the name of a publication, or ''."""

    rows: list[str]
    shared: str = ""
    published: str = ""


def sweep_spec(name: str) -> Spec:
    """Reads a sweep spec, and the publication that it names. Raises ConfigError."""
    known = sweep_names()
    if name not in known:
        raise ConfigError("sweep", name, "there is no sweep of this name", suggestion(name, known))
    tree = read_yaml(find(f"sweeps/{name}", "sweep"))
    rows, shared, published = (native(tree.get(key)) for key in ("rows", "settings", "published"))
    unknown = sorted(set(tree) - {"description", "rows", "settings", "published"})
    if unknown:
        reason = "a sweep spec has description, rows, settings and published"
        raise ConfigError(f"{name}.{unknown[0]}", native(tree[unknown[0]]), reason, "drop it")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, str) and "recipe=" in row for row in rows):
        raise ConfigError(
            f"{name}.rows", rows, "not a list of command lines", "write each as 'recipe=NAME key=value …'"
        )
    if not isinstance(shared, str | None) or not all("=" in word for word in row_words(shared or "")):
        raise ConfigError(f"{name}.settings", shared, "not words of a command line", "write 'key=value key=value …'")
    for row in rows:
        row_words(row)
    if published is not None:
        read_published(str(published), f"{name}.published")
    return Spec([str(row) for row in rows], shared or "", str(published or ""))


def asked_for(sweep: str | None, words: Sequence[str]) -> tuple[Spec, dict[str, list[str]]]:
    """Returns what is to be run, and the grid (key to values). ``sweep``: the name of a spec; ``words``: the settings
    of a command line, without the sweep's own options. Raises ConfigError."""
    grid = {key: text for key, _, text in (word.partition("=") for word in words)}
    recipes = grid.pop("recipe", None)
    spec = Spec([f"recipe={shlex.quote(name)}" for name in split_values("recipe", recipes or "") if name])
    if sweep is not None:
        if spec.rows:
            reason = f"the rows of sweep={sweep} name their recipes"
            raise ConfigError("recipe", recipes, reason, "leave one of the two out")
        spec = sweep_spec(sweep)
    if not spec.rows:
        raise ConfigError("recipe", None, "no recipe is given", "write recipe=NAME[,NAME…] or sweep=NAME")
    return spec, {key: split_values(key, text) for key, text in grid.items()}


def split_values(key: str, text: str) -> list[str]:
    """Splits a text at its commas; blanks beside them are left out. A comma in quotes or in brackets separates nothing:
    ``0,.5`` are two values, ``[0.9,0.95]`` and ``"a,b"`` are one each. Raises ConfigError for an empty one between
    others, and for a quote or bracket that is not closed."""
    values, depth, quote, opens = [""], 0, "", True
    for place, character in enumerate(text):
        if quote:
            escaped = quote == '"' and (len(values[-1]) - len(values[-1].rstrip("\\"))) % 2
            quote = "" if character == quote and not escaped else quote
        elif character in "'\"" and (opens or text[place - 1 : place] == character):
            quote = character
        else:
            depth = max(0, depth + (character in "[{") - (character in "]}"))
        if character == "," and not depth and not quote:
            values.append("")
        else:
            values[-1] += character
        opens = character in ",[{:" or (opens and character.isspace())
    if quote or depth:
        what = "a quote" if quote else "a bracket"
        raise ConfigError(
            key, text, f"{what} is opened in it and not closed", f"quote the text: {quoted_word(key, text)}"
        )
    values = [value.strip() for value in values]
    if len(values) > 1 and "" in values:
        reason = "there is nothing between two of its commas, or behind the last"
        remedy = f"write {key}={','.join(filter(None, values))}, or '' in quotes for an empty text"
        raise ConfigError(key, text, reason, remedy)
    return values if len(values) > 1 else [text]


def row_words(row: str) -> list[str]:
    """Splits a row into words as a shell would. Raises ConfigError."""
    try:
        return shlex.split(row)
    except ValueError as error:
        raise ConfigError("rows", row, f"not a command line: {error}", "close the quote") from None


def bare_word(word: str, before: str = "") -> ConfigError:
    """Returns the error for a word of a sweep's command line that is not ``key=value``. ``before``: the word before
    it."""
    remedy = "see --help"
    for key, names in (("recipe", recipe_names()), ("sweep", sweep_names())):
        if (guess := nearest(word, names, SURE)) is not None:
            remedy = f"write {key}={guess}"
    if before.endswith(",") or word.startswith(","):
        remedy = f"write {before}{word}, without a blank, or put the whole word in quotes"
    return ConfigError(word, None, "a setting is written key=value, without spaces", remedy)


def refuse_own(words: Sequence[str]) -> None:
    """Refuses settings of a cell that the sweep itself decides. Raises ConfigError."""
    for word in words:
        key, _, value = word.partition("=")
        if key in ("run_dir", "resume"):
            raise ConfigError(key, value, "a sweep gives every cell a directory of its own", "write out= instead")
        if key == "profile":
            raise ConfigError(
                key, value, "cells share their actors", "profile one by python -m carerl.run … profile=true"
            )
        if key == "dry_run":
            raise ConfigError(key, value, "a sweep has no plan", "plan a cell by python -m carerl.run … dry_run=true")
        if key == "rehearse":
            remedy = "leave it out of the row, and write rehearse=true behind carerl sweep"
            raise ConfigError(key, value, "a sweep is rehearsed whole, or not at all", remedy)


def refuse_twice(cells: Sequence[tuple[str, RunConfig]]) -> None:
    """Refuses two cells (name, settings) of which one is the other's run: ``.8`` and ``0.8`` are one value, and the
    same seed counted twice would narrow an interval. Raises ConfigError."""
    first: dict[str, str] = {}
    for name, config in cells:
        key = settings_key({key: value for key, value in leaves(plain(config)) if key not in NOT_COMPARED})
        if key in first:
            raise ConfigError("sweep", name, f"it is the run of {first[key]} once more", "name each value once")
        first[key] = name


def check_stored(directory: Path, asked: RunConfig, state: str) -> None:
    """Refuses to take a cell's directory for the run that is asked for when it was run with other settings.
    ``state`` says what the cell is, in words. Raises ConfigError."""
    remedy = f"give another out=, or delete the cell: {directory}"
    try:
        stored = read(directory / "config.yaml")
    except ConfigError as error:
        where = f"{error.field}: {error.reason}"
        reason = f"cell {directory.name} is {state}, but its settings cannot be read ({where})"
        raise ConfigError("out", str(directory), reason, remedy) from None
    differing = differences(plain(asked), plain(stored))
    if differing:
        key, now, then = differing[0]
        reason = f"cell {directory.name} is {state}, and was run with {key} = {shown(then)}"
        also = [f"{k} = {shown(was)}, now {shown(new)}" for k, new, was in differing[1:NAMED]]
        more = len(differing) - NAMED
        reason += "".join(f"; {text}" for text in also) + (f"; and {more} more differ" if more > 0 else "")
        raise ConfigError(key, now, reason, remedy)


# what the evaluation of the model that a run starts from does not depend on
NOT_OF_THE_START = (
    *(key for key in NOT_COMPARED if key != "rollout.threads"), "recipe", "algorithm", "regularizer", "reward", "steps",
    "prompts_per_step", "learner.optimizer", "learner.schedule", "learner.micro_batch_rows", "sync", "tracking",
    "checkpoint.every", "checkpoint.keep", "cluster",
)  # fmt: skip


def start_key(config: RunConfig) -> str:
    """Returns a key of the evaluation at step 0: runs of one key that start from the same weights have the same one.
    The seed is part of it where it makes the model, the questions or the tosses of a coin."""
    kept = {
        key: value
        for key, value in leaves(plain(config))
        if not any(key == left or key.startswith(f"{left}.") for left in NOT_OF_THE_START)
    }
    if not config.model.base_recipe and isinstance(config.task, TextConfig) and config.coin_seed is None:
        del kept["seed"]
    return settings_key(kept)


def differences(asked: dict[str, Any], stored: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Returns (setting, asked, stored) of all settings that are compared and differ, in the order of the asked ones."""
    new, old = dict(leaves(asked)), dict(leaves(stored))
    keys = [key for key in {**new, **old} if key not in NOT_COMPARED and (new.get(key) or key not in FOUND_AT_START)]
    return [
        (key, new.get(key, ABSENT), old.get(key, ABSENT))
        for key in keys
        if new.get(key, ABSENT) != old.get(key, ABSENT)
    ]
