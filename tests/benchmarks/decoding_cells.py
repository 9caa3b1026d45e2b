"""The cells of the study of steps and trees: trains an arm on a seed, decodes with its model, and makes a row of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from carerl.config.load import base_config, load
from carerl.config.stored import newest_checkpoint
from carerl.controller.models.base_model import base_directory
from carerl.runs.directory import RunDirectory
from carerl.runs.jsonl import read_metrics
from carerl.runs.tables import read_evaluations
from tests.benchmarks.study_rows import read_rows

Cell = tuple[str, int]  # arm and seed
SUITE = "q3"
WORKERS = 2
VALIDATION = 64  # questions that thresholds are learned on
ARMS: dict[str, tuple[str, ...]] = {  # what trains each; base: nothing
    "base": (),
    "GRPO": ("recipe=none_grpo_tiny",),
    "step-DPO": ("recipe=step_dpo_tiny",),
    "CASPO": ("recipe=caspo_tiny",),
    "CASPO, Monte-Carlo": ("recipe=caspo_tiny", "preference.label=monte_carlo"),
    "outcome-DPO": ("recipe=outcome_dpo_tiny",),
}
ON_SOME = ("outcome-DPO",)
METHODS = ("greedy", "self_consistency", "self_certainty", "deepconf", "cat")
SHARED = (f"task.validation_questions={VALIDATION}", "tracking.display=plain")
DECODING = (
    f"decode.methods=[{','.join(METHODS)}]", f"decode.suites=[{SUITE}]", "decode.budget=10",
    f"decode.validation_questions={VALIDATION}",
    "samples=16", "temperature=1", "rollout.engine=vllm", "max_new_tokens=8", "rollout.max_model_len=64",
    "rollout.cpus_per_actor=0.2", "grading.cpus_per_actor=0.1",
)  # fmt: skip
KEPT = ("eval/accuracy", "eval/accuracy_k2", "eval/accuracy_k4", "eval/maj", "calibration/facts_ece",
        "calibration/facts_ece_floor", "calibration/unknowable_f1", "eval/entropy", "eval/kl_per_sequence")  # fmt: skip
OF_STEPS = (f"eval/{SUITE}/step", f"calibration/{SUITE}/step")
Command = Callable[[Sequence[str], Path], int]


def run_cells(folder: Path, rows: Path, cells: Sequence[Cell], command: Command | None = None) -> int:
    """Runs the cells that have no row yet, two at a time, and appends a row for each that is finished. Returns 1 if one
    failed; the others go on. Base models come last: the first training of a seed makes its base model. ``command`` runs
    a program with its words and a file for what it says."""
    done = {(row["arm"], row["seed"]) for row in read_rows(rows)} if rows.is_file() else set()
    left = [cell for cell in cells if cell not in done]
    failed = 0
    for part in ([cell for cell in left if ARMS[cell[0]]], [cell for cell in left if not ARMS[cell[0]]]):
        with ThreadPoolExecutor(WORKERS) as workers:
            tasks = {workers.submit(run_cell, folder, cell, command or _program): cell for cell in part}
            for task in as_completed(tasks):
                failed |= not _kept(rows, tasks[task], task)
    return int(failed)


def _kept(rows: Path, cell: Cell, task: Future[dict[str, Any]]) -> bool:
    """Appends the row of a cell that has ended, and says what came of it. Returns False if it failed."""
    arm, seed = cell
    try:
        append(rows, task.result())
    except CellError as error:
        print(f"{arm}, seed {seed}: {error}", flush=True)
        return False
    print(f"{arm}, seed {seed}: finished", flush=True)
    return True


class CellError(RuntimeError):
    """A command of a cell that failed."""


def run_cell(folder: Path, cell: Cell, command: Command) -> dict[str, Any]:
    """Trains and decodes, each from where it was stopped. Returns the row. Raises CellError."""
    arm, seed = cell
    place = folder / f"{arm.lower().replace(', ', '_').replace(' ', '_')}-s{seed}"
    trained, decoded = place / "trained", place / "decoded"
    place.mkdir(parents=True, exist_ok=True)
    if ARMS[arm] and not _complete(trained):
        _do("carerl.run", _training(cell, trained), place / "trained.log", command)
    if not _complete(decoded):
        model = trained if ARMS[arm] else base_of(seed)
        if not model.is_dir():
            raise CellError(f"there is no {model}: run another arm of this seed first, whose training makes it")
        words = [f"model={model}", *SHARED, *DECODING, f"out={decoded}"]
        _do("carerl.evaluate", words, place / "decoded.log", command)
    return row_of(cell, trained if ARMS[arm] else None, decoded)


def _training(cell: Cell, place: Path) -> list[str]:
    """Returns the words that start or resume a training."""
    arm, seed = cell
    if newest_checkpoint(place) is not None:
        return [f"resume={place}"]
    if place.exists():  # stopped before its first checkpoint
        place.rename(place.with_name(f"{place.name}.{time.time_ns()}"))
    return [*ARMS[arm], *SHARED, "tracking.wandb=off", f"seed={seed}", f"run_dir={place}"]


def base_of(seed: int) -> Path:
    """Returns the directory of the base model that every arm of a seed starts from."""
    return base_directory(base_config(load([*ARMS["GRPO"], *SHARED, f"seed={seed}"])))


def _do(module: str, words: Sequence[str], log: Path, command: Command) -> None:
    if code := command([sys.executable, "-m", module, *words], log):
        raise CellError(f"{module} ended with {code}, see {log}")


def _program(words: Sequence[str], log: Path) -> int:
    with open(log, "ab") as file:
        return subprocess.run(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False).returncode


def _complete(place: Path) -> bool:
    return (RunDirectory(place).read_summary() or {}).get("status") == "completed"


def row_of(cell: Cell, trained: Path | None, decoded: Path) -> dict[str, Any]:
    """Makes a cell's row. ``trained``: the run; None for the base model."""
    run = RunDirectory(decoded)
    config, (record, *_) = run.read_config(), read_evaluations(run.evaluations)
    training = RunDirectory(trained).read_config() if trained else {}
    own = {name: training.get(name) for name in ("recipe", "algorithm", "preference", "steps") if training}
    return {
        "arm": cell[0],
        "seed": cell[1],
        "commit": run.read_versions().get("commit"),
        "shared": {"task": config["task"], "decode": config["decode"], "evaluation": _drawn(config["evaluation"])},
        "own": own | {"optimizer": training["learner"]["optimizer"]} if training else {},
        "final": {name: value for name, value in record["metrics"].items() if name in KEPT},
        "decode": decoded_figures(record["metrics"]),
        "rounds": rounds_of(trained) if trained else {},
        "chosen": chosen_of(trained) if trained else {},
    }


def _drawn(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of an evaluation without those that say when a training evaluates."""
    when = ("every", "at_start", "at_end", "questions_between")
    return {name: value for name, value in evaluation.items() if name not in when}


def decoded_figures(metrics: Mapping[str, float]) -> dict[str, dict[str, dict[str, float]]]:
    """Returns the figures of decoding by suite, method and kind."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name, value in metrics.items():
        if name.startswith("decode/"):
            _, suite, method, kind = name.split("/")
            found.setdefault(suite, {}).setdefault(method, {})[kind] = value
    return found


def rounds_of(trained: Path) -> dict[str, dict[str, float]]:
    """Returns what the evaluations within a training found, by step."""
    return {
        str(record["step"]): {
            name: value for name, value in record["metrics"].items() if name in KEPT or name.startswith(OF_STEPS)
        }
        for record in read_evaluations(RunDirectory(trained).evaluations)
    }


def chosen_of(trained: Path) -> dict[str, float]:
    """Returns, by round, how much it raised the log-prob of its chosen steps; empty for other trainings."""
    start, end = "round/chosen_logprob_start", "round/chosen_logprob_end"
    rows = read_metrics(RunDirectory(trained).metrics)
    return {str(int(row["step"])): row[end] - row[start] for row in rows if start in row and end in row}


def append(rows: Path, row: Mapping[str, Any]) -> None:
    """Adds a row to the file; it is on the disk on return."""
    rows.parent.mkdir(parents=True, exist_ok=True)
    with open(rows, "a") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())
