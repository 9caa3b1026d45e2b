"""Weights & Biases, kept at arm's length: it may be slow, unreachable or broken, and the run goes on.

All of W&B runs in one background thread, fed by a bounded queue, so that no call of the training loop
waits for a network. Failures are told once and then ignored; metrics.jsonl has everything anyway.

W&B's own step is the loop's: what is logged at one step (metrics, evaluation, pictures) is one row there, and the rows
of a run that went on meet those before them.

**Going on with a run.** Its W&B id is in wandb.json of the run directory. Offline, W&B can neither ask a server where
the run stands nor cut off what came after the checkpoint (``resume_from`` of an offline run starts a second log whose
rows overlap the first's). So the whole run is logged anew, from metrics.jsonl, which holds the rows up to the
checkpoint, and the log before is moved to wandb/superseded, where ``wandb sync`` does not look: what is left is the log
of a run that was never stopped. Online, the server is asked to rewind to the checkpoint; where it refuses, the run is
continued, and W&B keeps the rows that it has. Rows that the server lacks are sent from metrics.jsonl.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from carerl.metrics.table import STEP, groups
from carerl.runs.directory import RunDirectory
from carerl.runs.files import read_json, write_text
from carerl.runs.jsonl import read_metrics
from carerl.runs.redaction import redact_text
from carerl.runs.tables import evaluation_metrics
from carerl.tracking import wandb_content
from carerl.tracking.wandb_server import server_of_a_strangers_file

MODES = ("offline", "online")
QUEUE_ROWS = 10_000
LOCAL_SECONDS = 60.0  # for what involves no network; long, as a loaded machine may be slow
HASH_BYTES_PER_SECOND = 100e6  # of a checkpoint that goes along: closing waits that much longer
SUPERSEDED = "superseded"

_live = 0  # trackers of this process whose W&B runs: the last one ends W&B's service process
_live_lock = threading.Lock()
_set_here: dict[str, str] = {}  # environment variables that a tracker has set


class WandbTracker:
    """Logs to W&B under the same metric names, with ``step`` as every metric's axis.

    ``mode``: ``offline`` writes under ``directory``/wandb for a later ``wandb sync``; ``online`` sends,
    and falls back to offline, under the same run id, when the server does not answer within ``patience`` seconds. How
    runs are filed: :func:`carerl.tracking.wandb_content.filing`; the run's name is its directory's. ``resume_step``:
    the step of the checkpoint that the run goes on from.

    Beside the metrics: code and recipe as artifacts, what ``pictures`` draws of each evaluation (PNG by suite),
    ``rollout_rows`` rows of each rollout table (0: none, and no completion leaves), and with ``checkpoint`` the last
    checkpoint's model. All are taken from the run directory. One that fails is told once and left out from then on.

    Only the allow-list of :mod:`carerl.runs.redaction` is sent of the config. W&B's own collection of
    program arguments, source, git remotes, console output, installed packages and host facts is off:
    any of them may carry a secret.

    ``close`` waits at most ``patience`` seconds for a server (60 for an offline log to be written, more where a
    checkpoint goes along); what has not been sent by then stays on disk.
    """

    def __init__(
        self,
        *,
        mode: str,
        project: str,
        directory: str | Path,
        config: Mapping[str, Any],
        entity: str = "",
        rollout_rows: int = 0,
        checkpoint: bool = False,
        resume_step: int | None = None,
        pictures: Callable[[Path], Mapping[str, bytes]] = lambda evaluation: {},
        warn: Callable[[str], None] = print,
        patience: float = 5.0,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"tracking.wandb={mode!r}: use off, {' or '.join(MODES)}")
        self.mode = mode
        self.dropped = 0  # rows that found the queue full
        self.failure: str | None = None
        self._project = project
        self._entity = entity
        self._directory = RunDirectory(directory)
        self._config = dict(config)
        self._rollout_rows = rollout_rows
        self._checkpoint = checkpoint
        self._resume_step = resume_step
        self._draw = pictures
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
        if self._checkpoint:
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
            library = _library(self._directory)
            self._serve(library)
        except Exception as error:  # whatever W&B does, the run goes on
            self.failure = f"{type(error).__name__}: {error}"
            self._tell(f"W&B is off for the rest of this run ({_first_line(error)}); metrics.jsonl goes on")
        finally:
            if library is not None:
                _release(library)

    def _serve(self, library: Any) -> None:
        run = self._start(library)
        for group in groups():
            # the summary is the last value: the best accuracy and the best ECE are seldom of one model
            run.define_metric(f"{group}/*", step_metric=STEP, step_sync=False)
        content = _Content(run, library, self._directory, self._rollout_rows, self._draw, self._tell)
        if run.starting_step == 0:
            content.sources(self._config)
        for row in read_metrics(self._directory.metrics) if self._resume_step is not None else []:
            step = int(row.pop(STEP))
            if step <= self._resume_step:  # type: ignore[operator]
                content.row(step, row)
        while True:
            item = self._queue.get()
            if isinstance(item, str):
                content.finish(item, self._checkpoint)
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
                    reason = _first_line(error)
                    _forget_attempt(library, self._directory)
            self._tell(f"W&B cannot be reached ({reason}); logging offline under {self._directory.wandb}")
            self.mode = "offline"
        return self._init(library, "offline", {})

    def run_id(self) -> str:
        """W&B's id of this run, made at its first use and kept in the run directory. Two runs of one name in different
        places are two runs."""
        file = self._directory.path / "wandb.json"
        known = (read_json(file) or {}).get("id")
        if not known:
            known = f"{re.sub('[^A-Za-z0-9_-]+', '_', self._directory.name)[:48]}-{secrets.token_hex(4)}"
            write_text(file, json.dumps({"id": known, "project": self._project}, indent=2) + "\n")
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
            _supersede(self._directory.wandb)
        filed = wandb_content.filing(self._config)
        return library.init(
            entity=self._entity or None,
            project=self._project,
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


class _Content:
    """One W&B run being written, row by row and with what lies in the run directory."""

    def __init__(
        self,
        run: Any,
        library: Any,
        directory: RunDirectory,
        rollout_rows: int,
        pictures: Callable[[Path], Mapping[str, bytes]],
        tell: Callable[[str], None],
    ) -> None:
        self._run, self._library, self._directory = run, library, directory
        self._draw, self._tell = pictures, tell
        self._first = int(run.starting_step)  # a server that knows the run has everything before
        self._done = {"rollouts": self._first - 1, "evaluations": self._first - 1}
        self._rollout_rows = rollout_rows
        self._off: set[str] = set()  # kinds that failed once

    def row(self, step: int, metrics: Mapping[str, float]) -> None:
        """The row of a step, after the tables and pictures of the steps before it: a loop writes them behind its row,
        and W&B takes nothing for a step that is over."""
        self._files(step - 1)
        if step >= self._first:
            self._run.log({STEP: step, **metrics}, step=step)

    def finish(self, status: str, checkpoint: bool) -> None:
        self._files(None)
        if checkpoint and status != "failed":
            self._attempt("the checkpoint", self._model)

    def sources(self, config: Mapping[str, Any]) -> None:
        self._attempt("code and recipe", lambda: self._sources(config))

    def _attempt(self, what: str, send: Callable[[], None]) -> None:
        if what in self._off:
            return
        try:
            send()
        except Exception as error:  # a picture must not cost the metrics
            self._off.add(what)
            self._tell(f"W&B goes without {what} ({_first_line(error)})")

    def _files(self, last: int | None) -> None:
        """Rollout tables and evaluations up to the step ``last`` (None: all) that have not been logged yet."""
        kinds = (
            ("rollouts", "rollout tables", r"step_(\d+)\.parquet", self._table),
            ("evaluations", "reliability diagrams", r"step_(\d+)\.json", self._pictures),
        )
        for kind, what, pattern, send in kinds:
            folder: Path = getattr(self._directory, kind)
            if (kind == "rollouts" and not self._rollout_rows) or not folder.is_dir():
                continue
            found = [(re.fullmatch(pattern, name), name) for name in os.listdir(folder)]
            for step, name in sorted((int(match[1]), name) for match, name in found if match):
                if self._done[kind] < step and (last is None or step <= last):
                    self._done[kind] = step
                    self._attempt(what, lambda step=step, path=folder / name, send=send: send(step, path))  # type: ignore[misc]

    def _table(self, step: int, path: Path) -> None:
        columns, rows = wandb_content.rollout_table(path, self._rollout_rows)
        self._run.log({"rollout/table": self._library.Table(columns=columns, data=rows)}, step=step)

    def _pictures(self, step: int, path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            images = {}
            for suite, png in self._draw(path).items():
                file = Path(folder, f"{wandb_content.artifact_name(suite)}.png")
                file.write_bytes(png)
                images[f"calibration/reliability/{suite}"] = self._library.Image(str(file), caption=f"step {step}")
            if images:
                self._run.log(images, step=step)  # copies the files

    def _sources(self, config: Mapping[str, Any]) -> None:
        files, left_out = wandb_content.source_files()
        if left_out:
            self._tell(f"W&B's code artifact goes without {', '.join(left_out)}")
        texts = {name: path.read_bytes() for name, path in files.items()}
        self._artifact("code", "carerl-code", texts)
        recipe = {name: text.encode() for name, text in wandb_content.recipe_texts(config).items()}
        self._artifact("recipe", wandb_content.artifact_name("recipe", str(config.get("recipe") or "run")), recipe)

    def _artifact(self, kind: str, name: str, contents: Mapping[str, bytes]) -> None:
        """The contents as they are now, kept beside the log: by the time of a sync the sources may be others."""
        folder = self._directory.wandb / "artifacts" / kind
        shutil.rmtree(folder, ignore_errors=True)
        artifact = self._library.Artifact(name, kind)
        for inside, content in contents.items():
            file = folder / inside
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            artifact.add_file(str(file), name=inside, policy="immutable", skip_cache=True)
        self._run.log_artifact(artifact)

    def _model(self) -> None:
        """The last checkpoint's Hugging Face directory, where it lies: it is not copied."""
        latest = (self._directory.checkpoints / "latest").resolve()
        if not (latest / "model").is_dir():
            return
        step = int(latest.name.removeprefix("step_"))
        metadata = {STEP: step, **evaluation_metrics(self._directory, step)}
        name = wandb_content.artifact_name("model", self._directory.name)
        artifact = self._library.Artifact(name, "model", metadata=metadata)
        artifact.add_dir(str(latest / "model"), policy="immutable", skip_cache=True)
        self._run.log_artifact(artifact, aliases=["latest", f"step-{step}"])


def _library(directory: RunDirectory) -> Any:
    """The wandb module, quiet, reporting no crashes of its own, and keeping in the run directory what a sync needs (the
    tables of an offline run would lie in the user's home, which may be read-only). What the user has set stays."""
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


def _release(library: Any) -> None:
    """Ends W&B's service process with the last run of this process that used it."""
    global _live
    with _live_lock:
        _live -= 1
        if _live == 0 and hasattr(library, "teardown"):
            with contextlib.suppress(Exception):  # at the end of the process W&B does it itself
                library.teardown()


def _forget_attempt(library: Any, directory: RunDirectory) -> None:
    """Frees the run id, which W&B keeps in use after an attempt that failed, and puts away its empty log."""
    if _live == 1 and hasattr(library, "teardown"):
        library.teardown()
    _supersede(directory.wandb, "run-*")


def _supersede(wandb: Path, pattern: str = "offline-run-*") -> None:
    """Moves earlier logs away from where ``wandb sync`` is pointed."""
    for earlier in sorted(wandb.glob(pattern)):
        folder = wandb / SUPERSEDED
        folder.mkdir(exist_ok=True)
        os.rename(earlier, folder / f"{earlier.name}-{secrets.token_hex(2)}")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
