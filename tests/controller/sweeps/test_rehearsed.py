"""A sweep rehearsed whole, as far as its settings and its models go; ``tests/e2e/test_commands.py`` runs one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from carerl.config.load import load
from carerl.config.sweep import sweep_spec
from carerl.controller.session import Result
from carerl.controller.sweeps.rehearsed import DRAWN, draw_once, made_small, without_weights
from carerl.controller.sweeps.sweep import CELL, REHEARSE, _left_to_do, _settings, cells
from carerl.tasks import TASKS
from tests.controller.test_checkpoints import commit
from tests.controller.test_going_on import QUIET, never

ASKED = [*QUIET, REHEARSE]


def tokenizer(place: Path) -> Path:
    """A directory that a model can be drawn after: the tiny world's tokenizer."""
    config = load(["recipe=care_grpo_tiny"])
    TASKS["tiny"].build(config.task, config.seed).make_tokenizer().save_pretrained(place)
    return place


def test_cells_share_one_drawn_model_and_lie_where_the_sweep_says(tmp_path: Path) -> None:
    rows = [f"recipe={name} model.path={tokenizer(tmp_path / 'words')}" for name in ("none_grpo_tiny", "rkl_dapo_tiny")]
    plan = cells(rows, {"seed": ["1", "2"]}, tmp_path / "sweep")
    jobs, configs = _left_to_do(plan, ASKED)
    (model,) = {config.model.path for config in configs}
    assert Path(model).parent == tmp_path / "sweep" / DRAWN and (Path(model) / "model.safetensors").is_file()
    assert [config.run_dir for config in configs] == [str(cell.directory) for cell in plan]
    assert all(config.rehearse and config.steps == 3 and config.coin_seed == config.seed for config in configs)
    assert [len(job.twins) for job in jobs] == [1, 1, 1, 1], "of its seed: a coin is tossed for each"
    written = (Path(model) / "model.safetensors").stat().st_mtime_ns
    draw_once(load([*plan[0].words, *ASKED]), configs[0])
    assert (Path(model) / "model.safetensors").stat().st_mtime_ns == written, "drawn once"
    of_worker = replace(_settings(CELL, plan[0], ASKED, print), runs_dir=configs[0].runs_dir)
    assert of_worker == configs[0], "what a worker runs is what was checked"


def test_a_rehearsed_cell_is_resumed_as_it_was_stored(tmp_path: Path) -> None:
    (cell,) = cells(["recipe=care_grpo_tiny"], {"seed": ["1"]}, tmp_path)
    small = _settings(CELL, cell, ASKED, print)
    assert small.recipe == "rehearse_care_grpo_tiny" and small.model.base_recipe == "base_tiny"
    from carerl.controller import launch
    from carerl.tracking.display import QuietDisplay

    run, *_ = launch._open(small, QuietDisplay(), "")
    commit(run, 2)
    run.release()
    again = _settings(CELL, cell, ASKED, never)
    assert again.resume == str(cell.directory) and again.steps == 3 and again.rehearse
    without_weights(Result("interrupted", 2, cell.directory, {}, {}, 143), again)
    assert (cell.directory / "checkpoints").is_dir()
    without_weights(Result("completed", 3, cell.directory, {}, {}, 0), again)
    assert not (cell.directory / "checkpoints").exists()


def test_a_real_cell_is_left_as_it_is(tmp_path: Path) -> None:
    config = load(["recipe=care_grpo_tiny"])
    assert made_small(config, tmp_path) is config
    (tmp_path / "checkpoints").mkdir()
    without_weights(Result("completed", 3, tmp_path, {}, {}, 0), config)
    assert (tmp_path / "checkpoints").is_dir()


@pytest.mark.parametrize("name", ["paper_3b", "paper_7b", "paper_alpha", "calibration_4b"])
def test_the_shipped_sweeps_of_real_models_can_be_rehearsed(name: str, tmp_path: Path) -> None:
    spec = sweep_spec(name)
    for cell in cells(spec.rows, {}, tmp_path, spec.shared):
        small = made_small(load([*cell.words, REHEARSE]), cell.directory)
        assert small.cluster.gpus_per_node == 0 and small.run_dir == str(cell.directory)
