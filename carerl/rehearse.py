"""Rehearse recipes one after the other, and print a table of them.

    carerl rehearse [recipe=A,B] key=value …
    carerl rehearse model.path=DIR task.data_dir=FOLDER

is `carerl run recipe=NAME rehearse=true key=value …` for each recipe, in a process of its own; without recipe= for
every recipe that starts from a model. A failure does not stop the others. A setting that a recipe's task does not have
(task.data_dir of the tiny world) is left out for that recipe.

Exit codes: 0 all passed; 1 some did not; 2 the settings are refused; 130 Ctrl-C, with the table so far.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from carerl import cli
from carerl.config.kinds import KINDS
from carerl.config.load import load
from carerl.config.reading.compose import find, read_file, recipe_names
from carerl.config.sweep import split_values
from carerl.errors import ConfigError
from carerl.text.printable import printable
from carerl.text.terminal import command


@dataclass(frozen=True)
class Options:
    """The option of ``carerl rehearse``, beside the settings. ``recipe``: names and commas; None for all."""

    recipe: str | None = cli.option(None)


@dataclass(frozen=True)
class Rehearsed:
    """A line of the table. ``seconds``, ``gib``, ``dropped``: None if the rehearsal did not come to them."""

    recipe: str
    verdict: str
    seconds: float | None = None
    gib: float | None = None
    dropped: int | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        return (
            self.recipe,
            self.verdict,
            "" if self.seconds is None else f"{self.seconds / 60:.1f}",
            "" if self.gib is None else f"{self.gib:.1f}",
            "" if self.dropped is None else str(self.dropped),
        )


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command. Returns its exit code."""
    return cli.answer(words, _rehearse_all, __doc__ or "", bare=True)


def _rehearse_all(words: list[str]) -> int:
    options, passed_on = cli.take(words, Options)
    rows: list[Rehearsed] = []
    try:
        recipes = split_values("recipe", options.recipe) if options.recipe is not None else trained_recipes()
        refuse_unknown(recipes, passed_on)
        for recipe in recipes:
            rows.append(rehearsal(recipe, passed_on))
    except KeyboardInterrupt:
        print("\n".join(table(rows)), flush=True)
        return 130
    print("\n".join(table(rows)), flush=True)
    return 0 if all(row.verdict == "passed" for row in rows) else 1


def refuse_unknown(recipes: Sequence[str], words: Sequence[str]) -> None:
    """Raises ConfigError for a recipe that does not exist, and for a word that no recipe takes: that one is misspelt,
    and not meant for another task."""
    taken: set[str] = set()
    for recipe in recipes:
        find(recipe)
    for recipe in recipes:
        try:
            taken |= set(_known([f"recipe={recipe}", "rehearse=true", *words]))
        except ConfigError:  # of the recipe itself: told in its turn
            return
    for word in words:
        if word not in taken:
            key, _, value = word.partition("=")
            raise ConfigError(key, value, "none of these recipes has such a setting", "see carerl run --help")


def trained_recipes() -> list[str]:
    """Returns the names of the recipes that start from a model, sorted: of reinforcement learning and of supervised
    finetuning. A broken recipe is among them, and fails."""
    kinds = {name: KINDS.get(_kind(name)) for name in recipe_names()}
    return [name for name, kind in kinds.items() if kind is None or kind.trains_on_questions]


def _kind(name: str) -> str:
    try:
        return str(read_file(name).get("kind", "rl"))
    except ConfigError:
        return "rl"


def rehearsal(recipe: str, words: Sequence[str], run: Callable[[list[str]], Rehearsed] | None = None) -> Rehearsed:
    """Rehearses a recipe in a process of its own. Returns how it went, whatever becomes of that process."""
    asked = [f"recipe={recipe}", "rehearse=true", *words]
    # spawned: a process that is forked from this one would share what Ray and torch have started here
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(run or _rehearse, asked).result()
        except BrokenProcessPool:
            return Rehearsed(recipe, "FAILED (its process was killed)")
        except Exception as error:  # of the disk, of Ray: the others have their turn all the same
            print(f"{recipe}: {type(error).__name__}: {printable(error)}", file=sys.stderr, flush=True)
            return Rehearsed(recipe, f"FAILED ({type(error).__name__})")


def _rehearse(asked: list[str]) -> Rehearsed:
    recipe = asked[0].partition("=")[2]
    try:
        from carerl.controller.rehearsal.rehearsal import rehearse

        found = rehearse(load(_known(asked)))
        return Rehearsed(recipe, found.word, found.seconds, found.gib, found.dropped)
    except ConfigError as error:
        print(printable(error), file=sys.stderr, flush=True)
        return Rehearsed(recipe, f"refused ({error.field})")


def _known(asked: list[str]) -> list[str]:
    """Returns the words without those that are meant for other recipes: settings that this recipe's task does not have,
    and another model for a recipe that makes its own."""
    config = load(asked[:2])
    foreign = {
        word
        for word in asked[2:]
        if (word.startswith("task.") and not hasattr(config.task, word.partition("=")[0].removeprefix("task.")))
        or (word.startswith("model.path=") and config.model.base_recipe)
    }
    return [word for word in asked if word not in foreign]


def table(rows: Sequence[Rehearsed]) -> list[str]:
    """Returns the lines of the table, titles first."""
    lines = [("recipe", "verdict", "minutes", "GiB", "prompts dropped"), *(row.cells for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(5)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


if __name__ == "__main__":
    sys.exit(command(main))
