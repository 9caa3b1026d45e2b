"""Holds what training and evaluating share: a crew on a Ray cluster, and an end that is written down.

Whatever happens inside, the run directory says how it ended, its lock is released and the display is closed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from carerl.actors.cluster.cluster import cluster
from carerl.actors.crew import Crew, crew
from carerl.config.check.at_hand import check_cluster
from carerl.config.schema import RunConfig
from carerl.controller.ending import disk
from carerl.controller.ending.stopping import Interrupted, StopFlag, starting
from carerl.controller.models import base_model
from carerl.runs.directory import RunDirectory
from carerl.text.printable import printable
from carerl.tracking.display import Display
from carerl.types import RunError


@dataclass
class Result:
    """Says how a run ended. ``base`` and ``final``: metrics of the first and the last evaluation, empty without one.
    ``unwritten``: what could not be written at the end."""

    status: str
    step: int
    run_dir: Path
    base: dict[str, float]
    final: dict[str, float]
    exit_code: int
    unwritten: list[str] = field(default_factory=list)


@contextmanager
def staffed(config: RunConfig, display: Display, stop: StopFlag) -> Iterator[Any]:
    """Starts or joins a Ray cluster, and starts the run's crew on it (:mod:`carerl.actors.crew` has its kinds). Ends
    both after the block. Raises ConfigError if the cluster has no room for the run."""
    display.stage("start ray")
    with (
        starting(stop),
        cluster(config.cluster.address, base_model.object_store_mib(config)) as resources,
        stop.again(),
    ):
        check_cluster(config, resources.cpus, resources.gpus, grows=resources.joined)
        display.stage("start actors")
        with crew(config, display.message, stop.check, stop.request, stop.code) as actors:
            yield actors


@contextmanager
def accounted(
    result: Result, stop: StopFlag, how_to_resume: Callable[[], str], *closing: tuple[str, Callable[[], object]]
) -> Iterator[None]:
    """Sets ``result`` by how the block ends, then does what must be done at the end.

    A stop becomes the status ``interrupted``. A full disk and other foreseen errors are raised in words, with what
    ``how_to_resume`` returns. ``closing``: name and action of each thing to do at the end, see :func:`all_done`.
    """
    try:
        yield
    except (KeyboardInterrupt, Interrupted):
        result.status, result.exit_code = "interrupted", stop.exit_code or 130
    except OSError as error:
        if not disk.is_full(error):
            raise
        raise disk.told(error) from error
    except RunError as error:
        error.add_note(how_to_resume())
        raise
    finally:
        result.unwritten = all_done(*closing)


def all_done(*actions: tuple[str, Callable[[], object]]) -> list[str]:
    """Does everything that must be done at the end, even if some of it fails. Prints failures, and returns their names.
    Raises nothing: what ended the run must not be hidden by what follows from it."""
    failed = []
    for name, action in actions:
        try:
            action()
        except Exception as error:
            failed.append(name)
            print(printable(f"at the end, {name} failed: {type(error).__name__}: {error}"), file=sys.stderr, flush=True)
    return failed


def report_written(
    write: Callable[[RunDirectory], Path], directory: RunDirectory, say: Callable[[str], None]
) -> Path | None:
    """Writes a page and returns where it is; says so and returns None if it cannot be written. A picture that cannot be
    drawn must neither fail a good run nor hide why a bad one failed."""
    try:
        return write(directory)
    except Exception as error:
        say(f"report.html could not be written: {type(error).__name__}: {error}")
        return None


def say_threads(actors: Crew, display: Display) -> dict[str, int]:
    """Shows the number of threads of each actor, and warnings about them; returns the numbers by actor."""
    found = actors.threads()
    display.message("torch threads: " + ", ".join(f"{name} {threads.count}" for name, threads in found.items()))
    for name, threads in found.items():
        if threads.warning:
            display.message(f"{name}: {threads.warning}")
    return {name: threads.count for name, threads in found.items()}
