"""Many runs of one plan: the cells of a grid, on warm workers, resumable.

A sweep is a directory with one run directory per cell. Each worker process keeps its Ray actors, with
their engines, from cell to cell and only changes their weights and settings. A cell that is complete is
left alone, one that was stopped goes on from its checkpoint, and one that fails does not take the others
with it. A cell that was run with other settings than are asked for now is never counted as one of the sweep.
sweep.json lists the cells that were ever asked for (:mod:`carerl.runs.sweep_file`).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from carerl.actors.cluster.cluster import address, cluster, connect
from carerl.actors.crew import crew
from carerl.config.check.at_hand import check_cluster
from carerl.config.check.places import check_writable, run_mib
from carerl.config.load import base_config, load
from carerl.config.reading.typed import plain
from carerl.config.schema import RunConfig
from carerl.config.stored import NAMED_AGAIN, has_checkpoint, words_to_name
from carerl.config.sweep import check_stored, refuse_own, refuse_twice
from carerl.controller.launch import run
from carerl.controller.models import base_model, starting_weights
from carerl.controller.models.cache import check_room
from carerl.controller.preparation import check_model, say_trust
from carerl.controller.stopping import Interrupted, StopFlag
from carerl.controller.sweeps.team import END, SAID, Line, run_jobs
from carerl.errors import ConfigError
from carerl.runs.directory import RunDirectory, RunDirectoryError
from carerl.runs.sweep_file import ERROR_FILE, Cell, status, write_cells
from carerl.text.redaction import redact_text
from carerl.tracking.display import QuietDisplay

NAME_CHARACTERS = 200  # of a cell's directory; file systems take 255 bytes
BASE, CELL = "base", "cell"  # kinds of jobs


def cells(rows: Sequence[str], grid: Mapping[str, Sequence[str]], directory: Path) -> list[Cell]:
    """Every row (a command line's words) with every combination of the grid's values.

    The last key of the grid varies slowest and rows vary fastest, so that with ``seed`` last all rows of
    one seed come together: they share a base model and make complete pairs early.
    """
    keys = list(grid)
    found = []
    for values in itertools.product(*(grid[key] for key in reversed(keys))):
        chosen = dict(zip(reversed(keys), values, strict=True))
        for row in rows:
            settings = {key: chosen[key] for key in keys}
            words = Cell(directory, row, settings).words
            refuse_own(words)
            found.append(Cell(directory.absolute() / _slug(words), row, settings))
    twice = [name for name, count in Counter(cell.name for cell in found).items() if count > 1]
    if twice and len({cell.words for cell in found if cell.name == twice[0]}) > 1:
        reason = "two cells would have this directory: their values differ in signs that a name leaves out"
        raise ConfigError("sweep", twice[0], reason, "run them as two sweeps, each with an out= of its own")
    if twice:
        raise ConfigError("sweep", twice[0], "the same cell is asked for twice", "name each value once")
    return found


def _slug(words: Sequence[str]) -> str:
    parts = [word.split("=", 1) for word in words]
    named = [value if key == "recipe" else f"{key}-{value}" for key, value in parts]
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(named))
    if len(slug) <= NAME_CHARACTERS:
        return slug
    return f"{slug[:NAME_CHARACTERS]}-{hashlib.sha256(' '.join(words).encode()).hexdigest()[:8]}"


def sweep(plan: Sequence[Cell], workers: int, overrides: Sequence[str], say: Callable[[str], None]) -> dict[str, str]:
    """Runs what is not complete and returns every cell's status. Settings are checked before any starts.

    Raises ConfigError for a cell whose settings are refused, or whose directory holds a run with other settings."""
    asked = [load([*cell.words, *overrides]) for cell in plan]
    refuse_twice([(cell.name, config) for cell, config in zip(plan, asked, strict=True)])
    for cell, config in zip(plan, asked, strict=True):
        _check_cell(cell, config)
    pairs = [(cell, config) for cell, config in zip(plan, asked, strict=True) if status(cell.directory) != "completed"]
    todo, configs = [cell for cell, _ in pairs], [config for _, config in pairs]
    say(f"{len(plan)} cells, {len(plan) - len(todo)} complete already, {workers} at a time")
    for config in {config.model.path: config for config in configs if config.model.path}.values():
        say_trust(config)
        check_model(base_model.pinned(config), base_model.absolute(config.model.path))
    if not todo:
        return {cell.name: status(cell.directory) for cell in plan}
    place = todo[0].directory.parent
    check_writable("out", place, sum(map(run_mib, configs)), "the cells with their checkpoints")
    for config in configs:
        if config.model.base_recipe:
            check_room(Path(base_model.starting_directory(config)))
    place.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place / ".sweep.lock", blocking=False)
    try:
        held = lock.acquire()
    except Timeout:
        raise ConfigError(
            "out", str(place), "another sweep is at work there", "wait for it, or give another out="
        ) from None
    with held:
        try:
            write_cells(place, plan)  # what fails or is never reached can then be told from what was never asked for
        except ValueError as error:
            raise ConfigError("out", str(place), str(error), "or give another out=") from None
        _run(todo, configs, workers, overrides, say)
    return {cell.name: status(cell.directory) for cell in plan}


def _run(
    todo: Sequence[Cell],
    configs: Sequence[RunConfig],
    workers: int,
    overrides: Sequence[str],
    say: Callable[[str], None],
) -> None:
    """Runs the cells, ``workers`` at a time."""
    begin = time.monotonic()
    with cluster(configs[0].cluster.address, base_model.object_store_mib(configs[0])) as resources, StopFlag() as stop:
        check_cluster(configs[0], resources.cpus / workers, resources.gpus / workers, grows=resources.joined)
        # Bases first: otherwise all workers would wait for the one that builds what their next cells share.
        first_of_base = {
            _base_key(config): cell for config, cell in zip(reversed(configs), reversed(todo), strict=True)
        }
        jobs = [(BASE, cell) for cell in todo if cell in first_of_base.values()] + [(CELL, cell) for cell in todo]
        done = 0

        def heard(kind: str, job: tuple[str, Cell], text: str) -> None:
            nonlocal done
            if kind == SAID:
                say(text)
                return
            what, cell = job
            if kind == END:
                _write_error(cell, text)
            if what == CELL:
                done += 1
                left = (time.monotonic() - begin) / done * (len(todo) - done)
                say(f"[{done}/{len(todo)}, {left / 60:.0f} min left] {cell.name}: {text}")
            else:
                say(f"{cell.name}: {text}")

        # SIGTERM has each worker save the cell that it is at, and end. A second Ctrl-C kills them at once: they would
        # finish their steps on a cluster that is ending.
        run_jobs(jobs, workers, _worker, (address(), list(overrides)), heard, lambda: bool(stop))


def _check_cell(cell: Cell, asked: RunConfig) -> None:
    """Refuses a cell that is complete or would be gone on with, and was run with other settings or from another base
    model. One that starts afresh takes the settings that are asked for. Raises ConfigError."""
    if status(cell.directory) == "completed":
        state = "complete"
    elif has_checkpoint(cell.directory):
        state = "half done"
    else:
        _refuse_foreign(cell)
        return
    check_stored(cell.directory, asked, state)
    if asked.model.base_recipe:
        remedy = f"give another out=, or delete the cell: {cell.directory}"
        starting_weights.check_recipe(base_config(asked), cell.directory, remedy)


def _refuse_foreign(cell: Cell) -> None:
    """Refuses a cell's name at which something lies that is no run. Raises ConfigError."""
    place = cell.directory
    if place.is_dir() and not (place / "config.yaml").is_file():
        foreign = sorted(path.name for path in place.iterdir() if path.name not in (".lock", ERROR_FILE))
    else:
        foreign = [] if place.is_dir() or not os.path.lexists(place) else [place.name]  # a link to nowhere is one
    if foreign:
        reason = f"the cell's directory is there already and is no run: it holds {foreign[0]}"
        raise ConfigError("out", str(place), reason, "move it away, or give another out=")


def _base_key(config: RunConfig) -> str:
    return str(base_model.base_directory(base_config(config))) if config.model.base_recipe else ""


class _CellDisplay(QuietDisplay):
    """Shows nothing, and hands warnings on to whoever follows the sweep."""

    def __init__(self, line: Line, name: str) -> None:
        self._line, self._name = line, name

    def warning(self, text: str) -> None:
        self._line.say(f"{self._name}: warning: {text}")


def _worker(line: Line, cluster_address: str, overrides: list[str]) -> None:
    """Takes jobs until there are no more, with one crew for as long as it serves. Ctrl-C reaches every process of a
    terminal; only the parent answers it, and ends its workers by SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connect(cluster_address)
    with StopFlag(signals=(signal.SIGTERM, signal.SIGHUP)) as stop, ExitStack() as closing:
        actors: Any = None
        built_for = ""
        for kind, cell in line.jobs():
            begin, display = time.monotonic(), _CellDisplay(line, cell.name)
            try:
                config = load([*_start(cell, display.warning), *overrides])
                with base_model.claim(config, display.warning, stop.check):
                    if _crew_key(config) != built_for:
                        closing.close()
                        entered = crew(config, lambda text: None, stop.check, stop.request, stop.code)
                        actors = closing.enter_context(entered)
                        built_for = _crew_key(config)
                    model_dir = base_model.model_directory(config, actors.learner, display, stop)
                if kind == BASE:
                    line.done(f"base model ready in {time.monotonic() - begin:.0f} s")
                    if stop:
                        return
                    continue
                result = run(config, actors, model_dir, display, stop)
                text = f"{result.status} in {time.monotonic() - begin:.0f} s{_headline(result.final)}"
            except Interrupted as early:
                text = f"interrupted: {early}"
            except Exception as error:
                # A crew that met an error may be in any state: the next cell gets a fresh one.
                closing.close()
                built_for = ""
                _record_failure(cell, error)
                text = f"failed: {_brief(error)}"
            line.done(text)
            if stop:
                return


def _start(cell: Cell, say: Callable[[str], None] = lambda text: None) -> Iterator[str]:
    """The words that start a cell afresh, or go on with it where it has a checkpoint. What it left without one is set
    aside and kept. Raises RunDirectoryError where another process is writing it."""
    if has_checkpoint(cell.directory):
        (cell.directory / ERROR_FILE).unlink(missing_ok=True)  # of an earlier try
        again: list[str] = []
        if words_to_name(RunDirectory(cell.directory).read_config()):  # the sweep's command has named them
            again = [word for word in cell.words if word.partition("=")[0] in ("recipe", *NAMED_AGAIN)]
        return iter([f"resume={cell.directory}", *again])
    if (aside := RunDirectory.set_aside(cell.directory)) is not None:
        say(f"{cell.name} came to no checkpoint: it is kept as {aside.name}, and started again")
    (cell.directory / ERROR_FILE).unlink(missing_ok=True)
    return iter([*cell.words, f"run_dir={cell.directory}"])


def _crew_key(config: RunConfig) -> str:
    """Runs of one key can use the same actors, one after the other."""
    sections = plain(config)
    del sections["rollout"]["end_ids"]  # which a cell that goes on has, and one that starts does not
    return json.dumps([sections[k] for k in ("kind", "rollout", "reference", "grading", "learner", "cluster")])


def _record_failure(cell: Cell, error: BaseException) -> None:
    if not isinstance(error, RunDirectoryError):  # the directory is another process's, or no run
        _write_error(cell, "\n".join([_brief(error), "", *traceback.format_exception(error)]))


def _write_error(cell: Cell, text: str) -> None:
    with suppress(OSError):  # a full disk, say: the sweep goes on, and has said it
        cell.directory.mkdir(parents=True, exist_ok=True)
        (cell.directory / ERROR_FILE).write_text(redact_text(f"{text.rstrip()}\n"))


def _brief(error: BaseException) -> str:
    if isinstance(error, ConfigError):  # its first line has no reason
        return redact_text(f"{error.field}: {error.reason}")
    lines = redact_text(str(error)).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _headline(metrics: Mapping[str, float]) -> str:
    names = {"eval/accuracy": "accuracy", "calibration/facts_ece": "ECE", "calibration/unknowable_f1": "F1"}
    return "".join(f" · {short} {metrics[name]:.3f}" for name, short in names.items() if name in metrics)
