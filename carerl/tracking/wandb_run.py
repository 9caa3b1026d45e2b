"""Writes one W&B run: its rows, and what lies in the run directory beside them."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from carerl.metrics.table import STEP
from carerl.runs.directory import RunDirectory
from carerl.runs.tables import evaluation_metrics
from carerl.tracking import wandb_content
from carerl.tracking.wandb_content import WandbSettings
from carerl.tracking.wandb_library import first_line


class RunWriter:
    """Writes one W&B run, row by row and with what lies in the run directory. A kind of content that fails once is told
    once and left out from then on."""

    def __init__(
        self,
        run: Any,
        library: Any,
        directory: RunDirectory,
        settings: WandbSettings,
        tell: Callable[[str], None],
    ) -> None:
        self._run, self._library, self._directory = run, library, directory
        self._settings, self._tell = settings, tell
        self._first = int(run.starting_step)  # a server that knows the run has everything before
        self._done = {"rollouts": self._first - 1, "evaluations": self._first - 1}
        self._off: set[str] = set()  # kinds that failed once

    def row(self, step: int, metrics: Mapping[str, float]) -> None:
        """Logs the row of a step, after the tables and pictures of the steps before it: a loop writes them behind its
        row, and W&B takes nothing for a step that is over."""
        self._files(step - 1)
        if step >= self._first:
            self._run.log({STEP: step, **metrics}, step=step)

    def finish(self, status: str) -> None:
        """Logs what is left: the last tables and pictures, and the checkpoint where it was asked for."""
        self._files(None)
        if self._settings.checkpoint and status != "failed":
            self._attempt("the checkpoint", self._model)

    def sources(self, config: Mapping[str, Any]) -> None:
        """Logs code and recipe as artifacts."""
        self._attempt("code and recipe", lambda: self._sources(config))

    def _attempt(self, what: str, send: Callable[[], None]) -> None:
        if what in self._off:
            return
        try:
            send()
        except Exception as error:  # a picture must not cost the metrics
            self._off.add(what)
            self._tell(f"W&B goes without {what} ({first_line(error)})")

    def _files(self, last: int | None) -> None:
        """Logs rollout tables and evaluations up to the step ``last`` (None: all) that have not been logged yet."""
        kinds = (
            ("rollouts", "rollout tables", r"step_(\d+)\.parquet", self._table),
            ("evaluations", "reliability diagrams", r"step_(\d+)\.json", self._pictures),
        )
        for kind, what, pattern, send in kinds:
            folder: Path = getattr(self._directory, kind)
            if (kind == "rollouts" and not self._settings.rollout_rows) or not folder.is_dir():
                continue
            found = [(re.fullmatch(pattern, name), name) for name in os.listdir(folder)]
            for step, name in sorted((int(match[1]), name) for match, name in found if match):
                if self._done[kind] < step and (last is None or step <= last):
                    self._done[kind] = step
                    self._attempt(what, lambda step=step, path=folder / name, send=send: send(step, path))  # type: ignore[misc]

    def _table(self, step: int, path: Path) -> None:
        columns, rows = wandb_content.rollout_table(path, self._settings.rollout_rows)
        self._run.log({"rollout/table": self._library.Table(columns=columns, data=rows)}, step=step)

    def _pictures(self, step: int, path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            images = {}
            for suite, png in self._settings.pictures(path).items():
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
        """Logs the contents as they are now. They are kept beside the log, as sources may change before a sync."""
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
        """Logs the last checkpoint's Hugging Face directory, from where it lies: it is not copied."""
        latest = (self._directory.checkpoints / "latest").resolve()
        if not (latest / "model").is_dir():
            return
        step = int(latest.name.removeprefix("step_"))
        metadata = {STEP: step, **evaluation_metrics(self._directory, step)}
        name = wandb_content.artifact_name("model", self._directory.name)
        artifact = self._library.Artifact(name, "model", metadata=metadata)
        artifact.add_dir(str(latest / "model"), policy="immutable", skip_cache=True)
        self._run.log_artifact(artifact, aliases=["latest", f"step-{step}"])
