"""Sends metrics to all trackers of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from carerl.runs.directory import RunDirectory
from carerl.runs.jsonl import JsonlTracker
from carerl.tracking.wandb import WandbTracker
from carerl.tracking.wandb_content import WandbSettings


class Tracker(Protocol):
    """Receives every metric of a run. ``step`` is the loop's step; names are the same everywhere."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def close(self, status: str = "completed") -> None: ...


class Trackers:
    """Hands each row to every tracker in turn; closes all of them even if one fails to close."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self.trackers = list(trackers)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for tracker in self.trackers:
            tracker.log(step, metrics)

    def close(self, status: str = "completed") -> None:
        with contextlib.ExitStack() as stack:
            for tracker in reversed(self.trackers):
                stack.callback(tracker.close, status)


def make_trackers(
    run: RunDirectory,
    config: Mapping[str, Any],
    *,
    resume_step: int | None = None,
    warn: Callable[[str], None] = print,
    also: Sequence[Tracker] = (),
    pictures: Callable[[Path], Mapping[str, bytes]] = lambda evaluation: {},
) -> Trackers:
    """Makes the trackers of a run: metrics.jsonl, W&B when ``tracking.wandb`` is offline or online, and ``also``.

    ``config`` is the resolved config as plain mappings. ``pictures`` draws the pictures of an evaluation for W&B.
    """
    trackers: list[Tracker] = [JsonlTracker(run.metrics, resume_step)]
    tracking = config.get("tracking") or {}
    mode = str(tracking.get("wandb", "off"))
    if mode != "off":
        settings = WandbSettings(
            mode,
            project=str(tracking.get("wandb_project", "carerl")),
            entity=str(tracking.get("wandb_entity") or ""),
            rollout_rows=int(tracking.get("wandb_rollout_rows", 0)),
            checkpoint=bool(tracking.get("wandb_checkpoint", False)),
            pictures=pictures,
        )
        trackers.append(WandbTracker(settings, run.path, config, resume_step=resume_step, warn=warn))
    return Trackers([*trackers, *also])
