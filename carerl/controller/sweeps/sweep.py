"""Runs many runs of one plan: the cells of a grid. A sweep can be stopped and resumed.

A sweep is a directory with one run directory per cell. Each worker process keeps its Ray actors, with their engines,
from cell to cell, and changes only their weights and settings. A cell that is complete is left alone, one that was
stopped is resumed from its checkpoint, and one that fails does not affect the others. A cell that was run with other
settings than are asked for now is refused. sweep.json lists all cells that were ever asked for
(:mod:`carerl.runs.sweep_file`).
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
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from carerl.actors.cluster.cluster import address, cluster, connect
from carerl.actors.crew import crew
from carerl.config.check.at_hand import check_cluster
from carerl.config.check.places import check_writable, run_mib
from carerl.config.load import base_config, load
from carerl.config.reading.typed import plain
from carerl.config.schema import RunConfig
from carerl.config.stored import NAMED_AGAIN, has_checkpoint, words_to_name
from carerl.config.sweep import check_stored, refuse_own, refuse_twice, start_key
from carerl.controller.ending.stopping import Interrupted, StopFlag
from carerl.controller.launch import run
from carerl.controller.models import base_model, starting_weights
from carerl.controller.models.cache import check_room
from carerl.controller.preparation import check_model, say_trust
from carerl.controller.sweeps.rehearsed import draw_once, made_small, without_weights
from carerl.controller.sweeps.team import END, SAID, Line, run_jobs
from carerl.errors import ConfigError
from carerl.metrics.table import shown_in
from carerl.runs.directory import RunDirectory, RunDirectoryError
from carerl.runs.sweep_file import ERROR_FILE, Cell, status, write_cells
from carerl.text.redaction import redact_text
from carerl.tracking.display import QuietDisplay

NAME_CHARACTERS = 200  # of a cell's directory; file systems take 255 bytes
BASE, CELL = "base", "cell"  # kinds of jobs
REHEARSE = "rehearse=true"


class Job(NamedTuple):
    """Tells a worker what to do. ``twins``: the directories of the cells whose evaluation at step 0 is this one's
    too."""

    kind: str
    cell: Cell
    twins: Sequence[Path] = ()


def cells(rows: Sequence[str], grid: Mapping[str, Sequence[str]], directory: Path, shared: str = "") -> list[Cell]:
    """Returns the cells: every row (a command line's words) with every combination of the grid's values. ``shared`` are
    words of all rows, which no directory's name has. Raises ConfigError.

    The last key of the grid varies slowest and rows vary fastest, so that with ``seed`` last all rows of one seed come
    together: they share a base model and make complete pairs early.
    """
    keys = list(grid)
    found = []
    for values in itertools.product(*(grid[key] for key in reversed(keys))):
        chosen = dict(zip(reversed(keys), values, strict=True))
        for row in rows:
            settings = {key: chosen[key] for key in keys}
            name = _slug(Cell(directory, row, settings).words)
            found.append(Cell(directory.absolute() / name, f"{row} {shared}".rstrip(), settings))
            refuse_own(found[-1].words)
    twice = [name for name, count in Counter(cell.name for cell in found).items() if count > 1]
    if twice and len({cell.words for cell in found if cell.name == twice[0]}) > 1:
        reason = "two cells would have this directory: their values differ in characters that a name leaves out"
        raise ConfigError("sweep", twice[0], reason, "run them as two sweeps, each with an out= of its own")
    if twice:
        raise ConfigError("sweep", twice[0], "the same cell is asked for twice", "name each value once")
    return found


def _slug(words: Sequence[str]) -> str:
    """Returns the name of a cell's directory."""
    parts = [word.split("=", 1) for word in words]
    named = [value if key == "recipe" else f"{key}-{value}" for key, value in parts]
    slug = re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(named))
    if len(slug) <= NAME_CHARACTERS:
        return slug
    return f"{slug[:NAME_CHARACTERS]}-{hashlib.sha256(' '.join(words).encode()).hexdigest()[:8]}"


def sweep(
    plan: Sequence[Cell], workers: int, overrides: Sequence[str], say: Callable[[str], None], published: str = ""
) -> dict[str, str]:
    """Runs all cells that are not complete, and returns every cell's status. Checks all settings before any cell
    starts. ``published``: the publication that they are to be compared with.

    Raises ConfigError for a cell whose settings are refused, or whose directory holds a run with other settings."""
    todo, configs = _left_to_do(plan, overrides)
    say(f"{len(plan)} cells, {len(plan) - len(todo)} complete already, {workers} at a time")
    for config in {config.model.path: config for config in configs if config.model.path}.values():
        say_trust(config)
        check_model(base_model.pinned(config), base_model.absolute(config.model.path))
    if todo:
        place = todo[0].cell.directory.parent
        _check_places(place, configs)
        with _locked(place):
            try:
                write_cells(place, plan, published)  # a cell that failed or was not reached is known to belong here
            except ValueError as error:
                raise ConfigError("out", str(place), str(error), "or give another out=") from None
            _run(todo, configs, workers, overrides, say)
    return {cell.name: status(cell.directory) for cell in plan}


def _left_to_do(plan: Sequence[Cell], overrides: Sequence[str]) -> tuple[list[Job], list[RunConfig]]:
    """Checks the settings of all cells; returns the jobs of those that are not complete, and their settings. Draws the
    models of a rehearsal. Raises ConfigError."""
    asked = [load([*cell.words, *overrides]) for cell in plan]
    refuse_twice([(cell.name, config) for cell, config in zip(plan, asked, strict=True)])
    configs = [made_small(config, cell.directory) for cell, config in zip(plan, asked, strict=True)]
    for cell, config in zip(plan, configs, strict=True):
        _check_cell(cell, config)
    keys = [start_key(config) for config in configs]
    twins = {key: [cell.directory for cell, own in zip(plan, keys, strict=True) if own == key] for key in keys}
    jobs, left = [], []
    for cell, config, whole, key in zip(plan, configs, asked, keys, strict=True):
        if status(cell.directory) != "completed":
            draw_once(whole, config)
            jobs.append(Job(CELL, cell, [twin for twin in twins[key] if twin != cell.directory]))
            left.append(config)
    return jobs, left


def _check_places(place: Path, configs: Sequence[RunConfig]) -> None:
    """Refuses places that cannot be written to: the sweep's, and the cache's for base models. Raises ConfigError."""
    check_writable("out", place, sum(map(run_mib, configs)), "the cells with their checkpoints")
    for config in configs:
        if config.model.base_recipe:
            check_room(Path(base_model.starting_directory(config)))


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Holds the lock of a sweep's directory. Raises ConfigError if another sweep has it."""
    place.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place / ".sweep.lock", blocking=False)
    try:
        held = lock.acquire()
    except Timeout:
        raise ConfigError(
            "out", str(place), "another sweep is at work there", "wait for it, or give another out="
        ) from None
    with held:
        yield


def _run(
    todo: Sequence[Job],
    configs: Sequence[RunConfig],
    workers: int,
    overrides: Sequence[str],
    say: Callable[[str], None],
) -> None:
    """Runs the cells, ``workers`` at a time."""
    heard = _Heard(len(todo), say)
    with cluster(configs[0].cluster.address, base_model.object_store_mib(configs[0])) as resources, StopFlag() as stop:
        check_cluster(configs[0], resources.cpus / workers, resources.gpus / workers, grows=resources.joined)
        # Base models come first: otherwise all workers would wait for the one that builds what their next cells share.
        first_of_base = {_base_key(config): job for config, job in zip(reversed(configs), reversed(todo), strict=True)}
        jobs = [job._replace(kind=BASE) for job in todo if job in first_of_base.values()] + [*todo]
        # SIGTERM has each worker save the cell that it is at, and end. A second Ctrl-C kills them at once: otherwise
        # they would finish their steps on a cluster that is ending.
        run_jobs(jobs, workers, _worker, (address(), list(overrides)), heard, lambda: bool(stop))


class _Heard:
    """Shows what workers report, and how long the sweep will still take."""

    def __init__(self, cells: int, say: Callable[[str], None]) -> None:
        self._cells, self._say = cells, say
        self._begin, self._done = time.monotonic(), 0

    def __call__(self, kind: str, job: Job, text: str) -> None:
        """Shows a report of :func:`carerl.controller.sweeps.team.run_jobs`; writes down why a worker died."""
        if kind == SAID:
            self._say(text)
            return
        what, cell, _ = job
        if kind == END:
            _write_error(cell, text)
        if what == CELL:
            self._done += 1
            left = (time.monotonic() - self._begin) / self._done * (self._cells - self._done)
            self._say(f"[{self._done}/{self._cells}, {left / 60:.0f} min left] {cell.name}: {text}")
        else:
            self._say(f"{cell.name}: {text}")


def _check_cell(cell: Cell, asked: RunConfig) -> None:
    """Refuses a cell that is complete or would be resumed, if it was run with other settings or from another base
    model. A cell that starts afresh takes the settings that are asked for. Raises ConfigError."""
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
    """Refuses a cell whose directory holds something that is no run. Raises ConfigError."""
    place = cell.directory
    if place.is_dir() and not (place / "config.yaml").is_file():
        foreign = sorted(path.name for path in place.iterdir() if path.name not in (".lock", ERROR_FILE))
    else:
        foreign = [] if place.is_dir() or not os.path.lexists(place) else [place.name]  # a link to nowhere counts too
    if foreign:
        reason = f"the cell's directory is there already and is no run: it holds {foreign[0]}"
        raise ConfigError("out", str(place), reason, "move it away, or give another out=")


def _base_key(config: RunConfig) -> str:
    """Returns the place of a run's base model; '' if it has none."""
    return str(base_model.base_directory(base_config(config))) if config.model.base_recipe else ""


class _CellDisplay(QuietDisplay):
    """Shows nothing but warnings, which it hands on to whoever follows the sweep."""

    def __init__(self, line: Line, name: str) -> None:
        self._line, self._name = line, name

    def warning(self, text: str) -> None:
        self._line.say(f"{self._name}: warning: {text}")


def _worker(line: Line, cluster_address: str, overrides: list[str]) -> None:
    """Takes jobs until there are no more. Keeps its crew as long as the next job can use it. Ctrl-C reaches every
    process of a terminal; only the parent answers it, and ends its workers by SIGTERM."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connect(cluster_address)
    with StopFlag(signals=(signal.SIGTERM, signal.SIGHUP)) as stop, ExitStack() as closing:
        actors: Any = None
        built_for = ""
        for kind, cell, twins in line.jobs():
            begin, display = time.monotonic(), _CellDisplay(line, cell.name)
            try:
                config = _settings(kind, cell, overrides, display.warning)
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
                result = run(config, actors, model_dir, display, stop, twins=twins)
                without_weights(result, config)
                text = f"{result.status} in {time.monotonic() - begin:.0f} s{_headline(result.final)}"
            except Interrupted as early:
                text = f"interrupted: {early}"
            except Exception as error:
                # A crew that met an error may be in any state: the next cell gets a new one.
                closing.close()
                built_for = ""
                _record_failure(cell, error)
                text = f"failed: {_brief(error)}"
            line.done(text)
            if stop:
                return


def _settings(kind: str, cell: Cell, overrides: Sequence[str], say: Callable[[str], None]) -> RunConfig:
    """Returns the settings with which a cell is resumed or started. A base model's job leaves the cell's directory
    alone: another worker may be taking it for the run itself, and has its lock. Raises ConfigError or
    RunDirectoryError."""
    first, *more = cell.words if kind == BASE else _start(cell, say)
    if first.startswith("resume="):  # a rehearsal is resumed as it was stored, small
        return load([first, *more, *(word for word in overrides if word != REHEARSE)])
    return made_small(load([first, *more, *overrides]), cell.directory)


def _start(cell: Cell, say: Callable[[str], None] = lambda text: None) -> Iterator[str]:
    """Yields the words that resume a cell with a checkpoint, or start one without. Sets aside, and keeps, what a cell
    without a checkpoint has left. Raises RunDirectoryError if another process is writing it."""
    if has_checkpoint(cell.directory):
        (cell.directory / ERROR_FILE).unlink(missing_ok=True)  # from an earlier try
        again: list[str] = []
        if words_to_name(RunDirectory(cell.directory).read_config()):  # the sweep's command has named these settings
            again = [word for word in cell.words if word.partition("=")[0] in ("recipe", *NAMED_AGAIN)]
        return iter([f"resume={cell.directory}", *again])
    if (aside := RunDirectory.set_aside(cell.directory)) is not None:
        say(f"{cell.name} has no checkpoint: it is kept as {aside.name}, and started again")
    (cell.directory / ERROR_FILE).unlink(missing_ok=True)
    return iter([*cell.words, f"run_dir={cell.directory}"])


def _crew_key(config: RunConfig) -> str:
    """Returns a key: runs with the same key can use the same actors, one after the other."""
    sections = plain(config)
    del sections["rollout"]["end_ids"]  # a resumed cell has them, and a new one does not
    kept = [sections[k] for k in ("rollout", "reference", "grading", "learner", "cluster")]
    return json.dumps([list(config.does.roles), *kept])


def _record_failure(cell: Cell, error: BaseException) -> None:
    """Writes down why a cell failed, with the traceback."""
    if not isinstance(error, RunDirectoryError):  # the directory is another process's, or no run
        _write_error(cell, "\n".join([_brief(error), "", *traceback.format_exception(error)]))


def _write_error(cell: Cell, text: str) -> None:
    with suppress(OSError):  # a full disk, for instance: the sweep has reported it, and continues
        cell.directory.mkdir(parents=True, exist_ok=True)
        (cell.directory / ERROR_FILE).write_text(redact_text(f"{text.rstrip()}\n"))


def _brief(error: BaseException) -> str:
    """Returns an error in a line."""
    if isinstance(error, ConfigError):  # its first line does not have the reason
        return redact_text(f"{error.field}: {error.reason}")
    lines = redact_text(str(error)).splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _headline(metrics: Mapping[str, float]) -> str:
    """Returns the most telling metrics of a cell, for its line."""
    shown = [metric for metric in shown_in("sweep") if metric.name in metrics]
    return "".join(f" · {metric.label_in('sweep')} {metrics[metric.name]:.3f}" for metric in shown)
