"""vLLM with model directories that it would load by itself, each in a process of its own.

That what it is given is whole is checked before it is built: test_whole_checkpoint.py.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from carerl.backends.engines.vllm import VLLMEngine
from carerl.config.load import load
from carerl.errors import ConfigError
from tests.backends.model_directories import Q_PROJ, WEIGHTS, reweighted, sound

pytestmark = pytest.mark.engine
ROOT = Path(__file__).resolve().parents[3]
BUILD = """
import sys
from carerl.backends.engines import vllm as vllm_engine
from carerl.config.load import load
vllm_engine.check_weights = lambda *_: []  # what is looked at here comes behind it
vllm_engine.VLLMEngine(load(["recipe=care_grpo_tiny"]), sys.argv[1])
"""


def built(place: Path) -> str:
    """The last words of a process that builds an engine, '' if it could."""
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(place)], cwd=ROOT, capture_output=True, text=True, timeout=280
    )
    return "" if done.returncode == 0 else done.stderr


def test_a_projection_of_which_a_part_is_missing_is_refused_before_the_engine_is_built(tmp_path: Path) -> None:
    place = reweighted(sound(tmp_path / "model"), lambda w: {n: t for n, t in w.items() if n != Q_PROJ})
    with pytest.raises(ConfigError, match="1 of the 25 tensors of its architecture are missing"):
        VLLMEngine(load(["recipe=care_grpo_tiny"]), str(place))


def test_a_sound_model_is_built(tmp_path: Path) -> None:
    assert built(sound(tmp_path / "model")) == ""


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    place = sound(tmp_path / "model")
    torch.save(load_file(place / WEIGHTS), place / "pytorch_model.bin")
    (place / WEIGHTS).unlink()
    assert "its weights are pickled" in built(place)


def test_weights_that_are_nan_are_named(tmp_path: Path) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.layers.1.mlp.down_proj.weight"][3, 3] = float("nan")

    said = built(reweighted(sound(tmp_path / "model"), spoil))
    assert "its weights hold NaN: model.layers.1.mlp.down_proj.weight, 1 of 8,192 values" in said
