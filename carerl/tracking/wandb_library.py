"""Loads the wandb module for the trackers of this process, and lets go of it with the last of them."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from pathlib import Path
from typing import Any

from carerl.runs.directory import RunDirectory

SUPERSEDED = "superseded"

_live = 0  # trackers of this process whose W&B runs: the last one ends W&B's service process
_live_lock = threading.Lock()
_set_here: dict[str, str] = {}  # environment variables that a tracker has set


def load_library(directory: RunDirectory) -> Any:
    """Returns the wandb module, quiet, and reporting no crashes of its own. What a sync needs is kept in the run
    directory (the tables of an offline run would lie in the user's home, which may be read-only). What the user has set
    stays."""
    global _live
    cache = str(directory.wandb / ".cache")
    ours = {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false", "WANDB_CACHE_DIR": cache, "WANDB_DATA_DIR": cache}
    for name, value in ours.items():
        if os.environ.get(name) in (None, _set_here.get(name)):  # another run of this process may have been before
            os.environ[name] = _set_here[name] = value
    import wandb

    with _live_lock:
        _live += 1
    return wandb


def release(library: Any) -> None:
    """Ends W&B's service process with the last run of this process that used it."""
    global _live
    with _live_lock:
        _live -= 1
        if _live == 0 and hasattr(library, "teardown"):
            with contextlib.suppress(Exception):  # at the end of the process W&B does it itself
                library.teardown()


def forget_attempt(library: Any, directory: RunDirectory) -> None:
    """Frees the run id, which W&B keeps in use after an attempt that failed, and puts away its empty log."""
    if _live == 1 and hasattr(library, "teardown"):
        library.teardown()
    supersede(directory.wandb, "run-*")


def supersede(logs: Path, pattern: str = "offline-run-*") -> None:
    """Moves earlier logs away from where ``wandb sync`` is pointed."""
    for earlier in sorted(logs.glob(pattern)):
        folder = logs / SUPERSEDED
        folder.mkdir(exist_ok=True)
        os.rename(earlier, folder / f"{earlier.name}-{secrets.token_hex(2)}")


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message, or its type where it has none."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
