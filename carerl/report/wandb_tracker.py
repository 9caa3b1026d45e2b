"""Weights & Biases, kept at arm's length: it may be slow, unreachable or broken, and the run goes on.

All of W&B runs in one background thread, fed by a bounded queue, so that no call of the training loop
waits for a network. Failures are told once and then ignored; metrics.jsonl has everything anyway.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from carerl.report.redaction import public_config

MODES = ("offline", "online")
QUEUE_ROWS = 10_000
LOCAL_SECONDS = 30.0  # for what involves no network; long, as a loaded machine may be slow


class WandbTracker:
    """Logs to W&B under the same metric names, with ``step`` as every metric's axis.

    ``mode``: ``offline`` writes under ``directory``/wandb for a later ``wandb sync``; ``online`` sends,
    and falls back to offline when the server does not answer within ``patience`` seconds. Runs are
    grouped by recipe, so that the seeds of one recipe stand together; the run's name is its directory's.

    Only the allow-list of :mod:`carerl.report.redaction` is sent of the config. W&B's own collection of
    program arguments, source, git remotes, console output, installed packages and host facts is off:
    any of them may carry a secret. Completions are never sent.

    ``close`` waits at most ``patience`` seconds for a server (30 for an offline log to be written); what
    has not been sent by then stays on disk.
    """

    def __init__(
        self,
        *,
        mode: str,
        project: str,
        directory: str | Path,
        name: str,
        config: Mapping[str, Any],
        warn: Callable[[str], None] = print,
        patience: float = 5.0,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"tracking.wandb={mode!r}: use off, {' or '.join(MODES)}")
        self.mode = mode
        self.dropped = 0  # rows that found the queue full
        self.failure: str | None = None
        self._project = project
        self._directory = Path(directory)
        self._name = name
        self._config = public_config(config)
        self._warn = warn
        self._patience = patience
        self._queue: queue.Queue[tuple[int, dict[str, float]] | str] = queue.Queue(QUEUE_ROWS)
        self._abandoned = False
        self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
        self._thread.start()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if self.failure is not None:
            return
        try:
            self._queue.put_nowait((int(step), {name: float(value) for name, value in metrics.items()}))
        except queue.Full:
            self.dropped += 1

    def close(self, status: str = "completed") -> None:
        if not self._thread.is_alive():
            return
        try:
            self._queue.put(status, timeout=self._patience)
        except queue.Full:
            self._warn("W&B is not keeping up; its log is incomplete (metrics.jsonl is not)")
            return
        waited = LOCAL_SECONDS if self.mode == "offline" else self._patience
        self._thread.join(waited)
        if self._thread.is_alive():
            self._abandoned = True  # whatever the thread meets from here on is no news
            self._warn(
                f"W&B did not finish within {waited:g} s; "
                f"send the rest with: wandb sync {self._directory / 'wandb'}/*run-*"
            )
        elif self.dropped:
            self._warn(f"W&B missed {self.dropped} rows (metrics.jsonl has them)")

    def _work(self) -> None:
        run = None
        try:
            run = self._start()
            while True:
                item = self._queue.get()
                if isinstance(item, str):
                    run.finish(exit_code=0 if item == "completed" else 1)
                    return
                step, metrics = item
                run.log({"step": step, **metrics})
        except Exception as error:  # whatever W&B does, the run goes on
            self.failure = f"{type(error).__name__}: {error}"
            self._tell(f"W&B is off for the rest of this run ({self.failure.splitlines()[0]}); metrics.jsonl goes on")

    def _start(self) -> Any:
        # imported here: it costs seconds, and most runs do not use it
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        if self.mode == "online":
            try:
                return self._init(wandb, "online")
            except Exception as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                self._tell(f"W&B did not answer ({reason}); logging offline under {self._directory / 'wandb'}")
                self.mode = "offline"
                # W&B keeps the id of the failed attempt in use
                return self._init(wandb, "offline", f"{self._name[-56:]}-offline")
        return self._init(wandb, "offline")

    def _tell(self, text: str) -> None:
        if not self._abandoned:
            self._warn(text)

    def _init(self, wandb: Any, mode: str, run_id: str = "") -> Any:
        settings = wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            save_code=False,
            disable_job_creation=True,
            silent=True,
            init_timeout=self._patience if mode == "online" else LOCAL_SECONDS,
            login_timeout=self._patience,
            finish_timeout=self._patience if mode == "online" else LOCAL_SECONDS,
            host="-",
            username="-",
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            x_disable_stats=True,
        )
        online = {"resume": "allow"} if mode == "online" else {}
        run = wandb.init(
            project=self._project,
            dir=str(self._directory),
            mode=mode,
            id=run_id or self._name[-64:],
            name=self._name,
            group=str(self._config.get("recipe") or "") or None,
            job_type=str(self._config.get("kind") or "") or None,
            config=self._config,
            settings=settings,
            **online,
        )
        run.define_metric("step")
        run.define_metric("*", step_metric="step")
        return run
