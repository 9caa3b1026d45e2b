"""Logs to Weights & Biases in the background: W&B may be slow, unreachable or broken, and the run continues.

All of W&B runs in one background thread, fed by a bounded queue, so that no call of the training loop
waits for a network. Failures are reported once and then ignored; metrics.jsonl has everything anyway.

W&B's own step is the loop's: what is logged at one step (metrics, evaluation, pictures) is one row there, and the rows
of a resumed run continue those before them.

**Resuming a run.** Its W&B id is in wandb.json of the run directory. Offline, W&B can neither ask a server where
the run stands nor cut off what came after the checkpoint (``resume_from`` of an offline run starts a second log whose
rows overlap the first's). So the whole run is logged again from metrics.jsonl, which holds the rows up to the
checkpoint. The earlier log is moved to wandb/superseded, where ``wandb sync`` does not look. What is left is the log
of a run that was never stopped. Online, the server is asked to rewind to the checkpoint. If it refuses, the run is
continued, and W&B keeps the rows that it has. Rows that the server lacks are sent from metrics.jsonl.
"""

from __future__ import annotations

import json
import queue
import re
import secrets
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from carerl.metrics.table import STEP, groups
from carerl.runs.directory import RunDirectory
from carerl.runs.files import read_json, write_text
from carerl.runs.jsonl import read_metrics
from carerl.text.redaction import redact_text
from carerl.tracking import wandb_content
from carerl.tracking.wandb_content import WandbSettings
from carerl.tracking.wandb_library import first_line, forget_attempt, load_library, release, supersede
from carerl.tracking.wandb_run import RunWriter
from carerl.tracking.wandb_server import server_of_a_strangers_file

MODES = ("offline", "online")
QUEUE_ROWS = 10_000
LOCAL_SECONDS = 60.0  # for what involves no network; long, as a loaded machine may be slow
HASH_BYTES_PER_SECOND = 100e6  # of a checkpoint that goes along: closing waits that much longer


class WandbTracker:
    """Logs to W&B under the same metric names, with ``step`` as every metric's axis.

    Mode ``offline`` writes under ``directory``/wandb for a later ``wandb sync``; ``online`` sends,
    and falls back to offline, under the same run id, when the server does not answer within ``patience`` seconds. How
    runs are filed: :func:`carerl.tracking.wandb_content.filing`; the run's name is its directory's. ``resume_step``:
    the step of the checkpoint that the run is resumed from.

    Beside the metrics go code and recipe as artifacts, and what ``settings`` asks for. All are taken from the run
    directory.

    Only the allow-list of :mod:`carerl.runs.redaction` is sent of the config. W&B's own collection of
    program arguments, source, git remotes, console output, installed packages and host facts is off:
    any of them may carry a secret.

    ``close`` waits at most ``patience`` seconds for a server (60 for an offline log to be written, more where a
    checkpoint goes along); what has not been sent by then stays on disk.
    """

    def __init__(
        self,
        settings: WandbSettings,
        directory: str | Path,
        config: Mapping[str, Any],
        *,
        resume_step: int | None = None,
        warn: Callable[[str], None] = print,
        patience: float = 5.0,
    ) -> None:
        if settings.mode not in MODES:
            raise ValueError(f"tracking.wandb={settings.mode!r}: use off, {' or '.join(MODES)}")
        self.mode = settings.mode
        self.dropped = 0  # rows that found the queue full
        self.failure: str | None = None
        self._settings = settings
        self._directory = RunDirectory(directory)
        self._config = dict(config)
        self._resume_step = resume_step
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
        if self._settings.checkpoint:
            model = self._directory.checkpoints / "latest" / "model"
            waited += sum(path.stat().st_size for path in model.glob("*")) / HASH_BYTES_PER_SECOND
        self._thread.join(waited)
        if self._thread.is_alive():
            self._abandoned = True  # whatever the thread meets from here on is no news
            self._warn(
                f"W&B did not finish within {waited:g} s; send the rest with: wandb sync {self._directory.wandb}/*run-*"
            )
        elif self.dropped:
            self._warn(f"W&B missed {self.dropped} rows (metrics.jsonl has them)")

    def _work(self) -> None:
        library = None
        try:
            # imported here: it costs seconds, and most runs do not use it
            library = load_library(self._directory)
            self._serve(library)
        except Exception as error:  # whatever W&B does, the run goes on
            self.failure = f"{type(error).__name__}: {error}"
            self._tell(f"W&B is off for the rest of this run ({first_line(error)}); metrics.jsonl goes on")
        finally:
            if library is not None:
                release(library)

    def _serve(self, library: Any) -> None:
        run = self._start(library)
        for group in groups():
            # the summary is the last value: the best accuracy and the best ECE are seldom of one model
            run.define_metric(f"{group}/*", step_metric=STEP, step_sync=False)
        content = RunWriter(run, library, self._directory, self._settings, self._tell)
        if run.starting_step == 0:
            content.sources(self._config)
        for row in read_metrics(self._directory.metrics) if self._resume_step is not None else []:
            step = int(row.pop(STEP))
            if step <= self._resume_step:  # type: ignore[operator]
                content.row(step, row)
        while True:
            item = self._queue.get()
            if isinstance(item, str):
                content.finish(item)
                run.finish(exit_code=0 if item == "completed" else 1)
                return
            content.row(*item)

    def _start(self, library: Any) -> Any:
        if self.mode == "online":
            # a run that goes on is rewound, or else continued
            if server := server_of_a_strangers_file():
                self._tell(
                    f"W&B: only the file wandb/settings of the working directory says to send your key to {server}: "
                    f"logging offline under {self._directory.wandb}. If it is yours, set WANDB_BASE_URL={server}"
                )
                self.mode = "offline"
                return self._init(library, "offline", {})
            reason = ""
            rewind = [{"resume_from": f"{self.run_id()}?_step={self._resume_step}"}] if self._resume_step else []
            for options in (*rewind, {"resume": "allow"}):
                try:
                    # asked here, as W&B would ask for a key on a terminal and wait for the answer
                    if not library.login(prompt=False, verify=False):
                        raise RuntimeError("no API key: set WANDB_API_KEY or run wandb login")
                    return self._init(library, "online", options)
                except Exception as error:
                    reason = first_line(error)
                    forget_attempt(library, self._directory)
            self._tell(f"W&B cannot be reached ({reason}); logging offline under {self._directory.wandb}")
            self.mode = "offline"
        return self._init(library, "offline", {})

    def run_id(self) -> str:
        """Returns W&B's id of this run, made at its first use and kept in the run directory. Two runs of one name in
        different places are two runs."""
        file = self._directory.path / "wandb.json"
        known = (read_json(file) or {}).get("id")
        if not known:
            known = f"{re.sub('[^A-Za-z0-9_-]+', '_', self._directory.name)[:48]}-{secrets.token_hex(4)}"
            write_text(file, json.dumps({"id": known, "project": self._settings.project}, indent=2) + "\n")
        return str(known)

    def _tell(self, text: str) -> None:
        if not self._abandoned:
            self._warn(text)

    def _init(self, library: Any, mode: str, options: dict[str, str]) -> Any:
        patience = self._patience if mode == "online" else LOCAL_SECONDS
        settings = library.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            save_code=False,
            disable_job_creation=True,
            silent=True,
            init_timeout=patience,
            login_timeout=self._patience,
            finish_timeout=patience,
            host="-",
            username="-",
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            x_disable_stats=True,
        )
        if mode == "offline":
            supersede(self._directory.wandb)
        filed = wandb_content.filing(self._config)
        return library.init(
            entity=self._settings.entity or None,
            project=self._settings.project,
            dir=str(self._directory.path),
            mode=mode,
            id=self.run_id(),
            name=self._directory.name[: wandb_content.NAME_CHARACTERS],
            group=filed.group or None,
            job_type=filed.job_type or None,
            tags=list(filed.tags),
            notes=redact_text(str(self._config.get("description") or "")) or None,
            config=wandb_content.run_config(self._config, self._directory),
            settings=settings,
            **options,
        )
