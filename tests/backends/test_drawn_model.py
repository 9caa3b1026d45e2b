"""The model of drawn weights that a rehearsal trains: small, and in all else like the one that it stands for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from carerl.backends.drawn_model import make_drawn_model
from carerl.backends.models import end_ids, load_tokenizer
from carerl.config.rehearsal import shrunk
from carerl.config.schema import ShapeConfig
from carerl.config.shapes import shape_from_directory
from carerl.tasks import byte_tokenizer

REAL = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": byte_tokenizer.VOCAB_SIZE + 3,
    "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
    "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True, "max_position_embeddings": 4096,
    "rope_theta": 500000.0, "rms_norm_eps": 1e-5, "eos_token_id": byte_tokenizer.EOS, "max_window_layers": 28,
    "layer_types": ["full_attention"] * 28, "rope_scaling": {"rope_type": "linear", "factor": 2.0},
}  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A real model's directory as a hub gives it, without weights."""
    folder = tmp_path / "real"
    byte_tokenizer.make_byte_tokenizer(context=4096).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(REAL))
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 7], "temperature": 0.6}')
    (folder / "model.safetensors.index.json").write_text("{}")
    return folder


def drawn(source: Path, seed: int = 100, dtype: str = "bfloat16") -> Path:
    target = source.parent / f"drawn-{seed}-{dtype}"
    make_drawn_model(target, source, shrunk(shape_from_directory(str(source))), dtype, seed)
    return target


def test_it_is_small_and_keeps_what_is_no_size(source: Path) -> None:
    made = drawn(source)
    config, model = json.loads((made / "config.json").read_text()), AutoModelForCausalLM.from_pretrained(made)
    assert sum(p.numel() for p in model.parameters()) < 150_000
    for key in ("vocab_size", "tie_word_embeddings", "max_position_embeddings", "rms_norm_eps", "model_type"):
        assert config[key] == REAL[key], key
    assert config["rope_parameters"]["rope_type"] == "linear" and config["rope_parameters"]["factor"] == 2.0
    assert config["rope_parameters"]["rope_theta"] == REAL["rope_theta"]
    assert config["num_attention_heads"] == 2 * config["num_key_value_heads"]
    assert {t.dtype for t in load_file(made / "model.safetensors").values()} == {torch.bfloat16}


def test_tokenizer_and_generation_settings_are_the_real_ones(source: Path) -> None:
    made = drawn(source)
    text = "Find 1/2 + 3. \\boxed{7}"
    assert load_tokenizer(str(made)).encode(text) == load_tokenizer(str(source)).encode(text)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (made / name).read_bytes() == (source / name).read_bytes()
    assert not (made / "model.safetensors.index.json").exists(), "it names files that are not there"


def test_the_seed_decides_the_weights(source: Path) -> None:
    first, other = (load_file(drawn(source, seed) / "model.safetensors") for seed in (100, 101))
    before = torch.get_rng_state()
    again = load_file(drawn(source, 100, "float32") / "model.safetensors")
    assert torch.get_rng_state().equal(before)
    assert all(again[name].to(torch.bfloat16).equal(tensor) for name, tensor in first.items())
    assert not any(tensor.equal(other[name]) for name, tensor in first.items()), "norms and biases are drawn too"


def test_responses_end_now_and_then(source: Path) -> None:
    """Neither always at the limit nor at once: both ends of a response are rehearsed."""
    made = drawn(source, dtype="float32")
    model: Any = AutoModelForCausalLM.from_pretrained(made)
    torch.manual_seed(0)
    prompts = torch.randint(5, byte_tokenizer.VOCAB_SIZE, (256, 20))
    with torch.no_grad():
        probabilities = model(prompts).logits[:, -1].softmax(-1)
    ends = sorted({byte_tokenizer.EOS, *end_ids(str(made))})
    share = float(probabilities[:, ends].sum(-1).mean())
    assert 0.01 < share < 0.6


def test_a_directory_with_a_tokenizer_alone_takes_the_recipes_shape(source: Path) -> None:
    (source / "config.json").unlink()
    shape = ShapeConfig(vocab_size=byte_tokenizer.VOCAB_SIZE, attention_bias=False, tie_embeddings=False)
    target = source.parent / "made"
    make_drawn_model(target, source, shrunk(shape), "float32", 1)
    assert shape_from_directory(str(target)) == shrunk(shape)


def test_a_directory_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises((OSError, ValueError)):
        make_drawn_model(tmp_path / "made", tmp_path / "empty", ShapeConfig(), "float32", 1)
