"""Keeps the best model of a run by its validation questions, beside the newest (:mod:`carerl.config.selection`).

``checkpoints/best`` points to ``checkpoints/best_000150/``: ``model/``, an ordinary Hugging Face directory (with
``learner.lora.export=adapter`` adapters alone, which ``carerl evaluate`` takes as well), ``best.json`` with the rule
and every validation metric, and ``manifest.json``. It appears whole or not at all, like a checkpoint, but before the
loop goes on: a checkpoint of the same step must find it. The model that was best when the newest checkpoint was written
stays until the next checkpoint, so that a resumed run still has it. Step 0 takes part: if no step is better than the
base model, the base model is the best.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from carerl.config.selection import Selection, parse_selection
from carerl.controller.checkpoints import export, finish, remove_leftovers, whole_or_absent
from carerl.controller.context import Context
from carerl.runs.commit import commit, numbered, point
from carerl.runs.directory import RunDirectory
from carerl.runs.files import finite, read_json

LINK = "best"
RECORD = "best.json"
SUITE = "/validation/"  # in the names of the metrics that are kept


def keep(context: Context[Any], step: int, metrics: Mapping[str, float]) -> None:
    """Keeps the model as it is now if it is the best so far by ``metrics``, those of the evaluation at ``step``."""
    finish(context)  # a checkpoint that was begun needs the models that are kept now, and a place in memory
    config, folder = context.config, context.run.checkpoints
    selection = parse_selection(config.checkpoint.best)
    candidates = _kept(folder)
    candidates[step] = {name: value for name, value in metrics.items() if SUITE in name}
    chosen = selection.choose(candidates)
    if chosen == step:
        context.display.stage("best model")
        final = folder / f"{LINK}_{step:06d}"
        remove_leftovers(folder)
        with whole_or_absent(context, f"the best model, of step {step},"):
            partial = final.with_name(f".{final.name}.partial")
            partial.mkdir(parents=True)
            sums = export(context, partial, step)
            record = {"step": step, "rule": config.checkpoint.best, "recipe": config.recipe, "seed": config.seed}
            record["metrics"] = finite(candidates[step])
            (partial / RECORD).write_text(json.dumps(record, indent=2) + "\n")
            commit(partial, final, sums)
        context.display.message(f"best so far by validation: step {step} ({_shown(selection, candidates[step])})")
    _point(folder, chosen)
    if not config.checkpoint.every:  # without checkpoints no run goes back to an earlier best model
        forget(context.run)


def forget(run: RunDirectory) -> None:
    """Removes kept models other than the best. Is called when a checkpoint is written: no run is resumed from before
    it."""
    chosen = read(run)
    for step, path in numbered(run.checkpoints, rf"{LINK}_(\d+)"):
        if chosen is None or step != chosen["step"]:
            shutil.rmtree(path)


def go_back(run: RunDirectory, step: int, rule: str) -> None:
    """Takes the kept models back to ``step``. Removes later ones: they are made again, like the evaluations that chose
    them."""
    for number, path in numbered(run.checkpoints, rf"{LINK}_(\d+)"):
        if number > step:
            shutil.rmtree(path)
    kept = _kept(run.checkpoints)
    _point(run.checkpoints, parse_selection(rule).choose(kept) if rule else max(kept, default=None))


def read(run: RunDirectory) -> dict[str, Any] | None:
    """Returns what ``best.json`` says of the best model; None if there is none."""
    return read_json(run.checkpoints / LINK / RECORD)


def report(run: RunDirectory, rule: str) -> str:
    """Returns a line about the best model, for the end of a run."""
    found = read(run)
    if found is None:
        return f"best by validation: none of the models evaluated keeps {rule!r}"
    figures = _shown(parse_selection(rule), found["metrics"])
    return f"best by validation: step {found['step']} ({figures}): {run.checkpoints / LINK / 'model'}"


def _shown(selection: Selection, metrics: Mapping[str, float | None]) -> str:
    """Returns the numbers that the rule looks at, for people."""
    return ", ".join(f"{name} {value:.3f}" for name, value in selection.figures(metrics).items())


def _kept(folder: Path) -> dict[int, Mapping[str, float | None]]:
    """Returns the validation metrics of the models that are kept, by step."""
    records = [(step, read_json(path / RECORD)) for step, path in numbered(folder, rf"{LINK}_(\d+)")]
    return {step: record["metrics"] for step, record in records if record}


def _point(folder: Path, step: int | None) -> None:
    """Points ``best`` to the model of a step; removes it for None."""
    if step is None:
        (folder / LINK).unlink(missing_ok=True)
    else:
        point(folder / LINK, folder / f"{LINK}_{step:06d}")
