"""Small model directories of random weights, and what can be wrong with one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from carerl.backends.initial import init_tiny
from carerl.backends.models import make_model, save_model
from carerl.config.load import base_config, dump, load
from carerl.tasks import TASKS
from carerl.tasks.byte_tokenizer import EOS, VOCAB_SIZE, make_byte_tokenizer
from carerl.tasks.tiny.tokenizer import make_tokenizer

Q_PROJ = "model.layers.0.self_attn.q_proj.weight"
WEIGHTS = "model.safetensors"


def sound(
    place: Path,
    architecture: str = "qwen3",
    tie: bool = True,
    shard: str = "",
    dtype: str = "float32",
    layers: int = 2,
    **keys: Any,
) -> Path:
    """A whole model with a tokenizer of bytes, context 256."""
    config = AutoConfig.for_model(
        architecture, vocab_size=VOCAB_SIZE, hidden_size=64, intermediate_size=128, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=2, head_dim=32, tie_word_embeddings=tie,
        max_position_embeddings=256, eos_token_id=EOS, pad_token_id=0, bos_token_id=None, **keys,
    )  # fmt: skip
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    model.generation_config.eos_token_id = EOS
    model.save_pretrained(place, **({"max_shard_size": shard} if shard else {}))
    make_byte_tokenizer(context=256).save_pretrained(place)
    return place


def reweighted(place: Path, change: Callable[[dict[str, Tensor]], Any], name: str = WEIGHTS) -> Path:
    """Changes the tensors of a directory: ``change`` returns others, or None for what it did in place."""
    tensors = load_file(place / name)
    save_file(change(tensors) or tensors, place / name, metadata={"format": "pt"})
    return place


def configured(place: Path, **keys: Any) -> Path:
    """Changes ``config.json``; a value of None removes the key."""
    found = json.loads((place / "config.json").read_text()) | keys
    (place / "config.json").write_text(json.dumps({key: value for key, value in found.items() if value is not None}))
    return place


def replaced(place: Path, name: str, content: bytes) -> Path:
    (place / name).write_bytes(content)
    return place


def renamed(place: Path, old: str, new: str) -> Path:
    (place / old).rename(place / new)
    return place


def untrained_base(place: Path) -> Path:
    """Writes a base model of the tiny world as the cache holds it, but untrained."""
    base = base_config(load(["recipe=care_grpo_tiny", "seed=100"]))
    task = TASKS["tiny"].build(base.task, base.seed)
    generator = torch.Generator().manual_seed(1)
    model = make_model(base.model.shape, task.stop_ids, lambda made: init_tiny(made, generator))
    save_model(place, model.config, {n: p.detach() for n, p in model.named_parameters()}, make_tokenizer())
    (place / "carerl_base.yaml").write_text(dump(base))
    return place
