"""Names the four sections that are chosen by ``name``, and the tables that they are chosen from."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, get_type_hints

from carerl.algorithms import ALGORITHMS
from carerl.config.schema import RunConfig
from carerl.regularizers import REGULARIZERS
from carerl.rewards import REWARDS
from carerl.settings import Settings
from carerl.tasks import TASKS


class Entry(Protocol):
    """A line of a table: the settings' dataclass and one line for people."""

    @property
    def config(self) -> type: ...
    @property
    def line(self) -> str: ...


CHOICES: dict[str, Mapping[str, Entry]] = {
    "task": TASKS,
    "algorithm": ALGORITHMS,
    "regularizer": REGULARIZERS,
    "reward": REWARDS,
}


@functools.cache
def base_of(section: str) -> type[Settings]:
    """Returns the class that the settings of every choice of a section inherit."""
    found: type[Settings] = get_type_hints(RunConfig)[section]
    return found


def choice_config(section: str, name: Any) -> type | None:
    """Returns the dataclass of a named choice, or None if there is no such name."""
    entry = CHOICES[section].get(name) if isinstance(name, str) else None
    return entry.config if entry is not None else None


@functools.cache
def source_text(config_type: Any) -> str:
    """Returns the code around a settings dataclass, without comments, docstrings and imports: its module, or all
    modules beside it if the choice has a package of its own (``carerl.tasks.tiny``). Empty if there is none on disk.
    It is read once: a file that is edited while a process runs is not the code that the process runs.

    It goes into cache keys, so that a changed world is never taken for the one that was cached."""
    module = inspect.getmodule(config_type)
    file = getattr(module, "__file__", None)
    if module is None or file is None or not Path(file).is_file():
        return ""
    package = module.__name__.rpartition(".")[0]
    shared = package in ("", "carerl.tasks", "carerl.tasks.benchmarks")  # a folder that holds other choices too
    files = [Path(file)] if shared else sorted(Path(file).parent.glob("*.py"))
    return "\n".join(_bare(f.read_text(encoding="utf-8")) for f in files)


def _bare(source: str) -> str:
    """Returns the syntax of a module without what changes no number: docstrings, comments, imports."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            body[:] = [line for line in body if not isinstance(line, ast.Import | ast.ImportFrom)]
    for node in ast.walk(tree):
        match getattr(node, "body", None):
            case [ast.Expr(value=ast.Constant()), *_] as body:
                del body[0]
    return ast.dump(tree)
