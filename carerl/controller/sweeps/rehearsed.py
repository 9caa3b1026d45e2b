"""A sweep rehearsed whole: every cell made small, on this machine, with a model of drawn weights that cells share.

Each cell runs once. What a recipe's own rehearsal shows beyond that (stop and resume, weights that moved) is not looked
at again here (:mod:`carerl.controller.rehearsal.rehearsal`).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from carerl.config.load import settings_key
from carerl.config.reading.typed import plain
from carerl.config.rehearsal import rehearsed
from carerl.config.schema import RunConfig
from carerl.controller.rehearsal.rehearsal import draw, has_cpu_vllm, source_of
from carerl.controller.session import Result
from carerl.runs.directory import RunDirectory

DRAWN = "drawn"  # the folder of a sweep in which the models lie


def made_small(config: RunConfig, cell: Path) -> RunConfig:
    """Returns the settings of the rehearsal in a cell's directory; of any other run ``config`` itself. Raises
    ConfigError."""
    if not config.rehearse:
        return config
    small = rehearsed(config, has_cpu_vllm())
    small.run_dir = str(cell)
    if not small.model.base_recipe:
        facts = {"from": config.model.path, "shape": plain(small.model.shape), "dtype": small.model.dtype}
        small.model.path, small.model.revision = str(cell.parent / DRAWN / settings_key(facts)), ""
    return small


def draw_once(config: RunConfig, small: RunConfig) -> None:
    """Draws the model of a rehearsal, unless it is there. ``config``: the settings before they were made small. Raises
    ConfigError."""
    place = Path(small.model.path)
    if not config.rehearse or small.model.base_recipe or place.is_dir():
        return
    source = source_of(config)
    assert source is not None, "only a base model that is made here has none"
    half = place.with_name(f"{place.name}.half")
    shutil.rmtree(half, ignore_errors=True)
    draw(small, source, half)
    os.replace(half, place)  # whole or not at all


def without_weights(result: Result, config: RunConfig) -> None:
    """Removes the checkpoints of a rehearsal that is complete: they are random numbers, and take most of its room."""
    if config.rehearse and result.status == "completed":
        shutil.rmtree(RunDirectory(result.run_dir).checkpoints, ignore_errors=True)
