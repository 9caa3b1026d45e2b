"""A decoder's shape: read from a model directory, counted in parameters."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carerl.config.named_models import PACKAGED
from carerl.config.schema import LoraConfig, RunConfig, ShapeConfig
from carerl.errors import ConfigError

# what config.json must say of a decoder
NEEDED = (
    "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "max_position_embeddings",
)  # fmt: skip
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@dataclass(frozen=True)
class Parameters:
    """Parameter counts of a shape.

    ``matmul`` is what every token is multiplied with: all matrices of the layers and the head, a tied head
    included, the embedding look-up not. ``non_embedding`` leaves out embedding and head.
    """

    total: int
    embedding: int
    non_embedding: int
    matmul: int


def count_parameters(shape: ShapeConfig) -> Parameters:
    """Counts the parameters of a decoder with grouped-query attention, a gated MLP and two norms per layer.

    qwen2 has biases on q, k and v; qwen3 has norms on q and k; qwen3 and llama with ``attention_bias`` have
    biases on q, k, v and o.
    """
    d, heads, kv, size = shape.hidden_size, shape.num_heads, shape.num_kv_heads, shape.head_dim
    matrices = sum(columns * rows for columns, rows in layer_matrices(shape).values())
    vectors = 2 * d
    if shape.architecture == "qwen2":
        vectors += (heads + 2 * kv) * size
    elif shape.attention_bias:
        vectors += (heads + 2 * kv) * size + d
    if shape.architecture == "qwen3":
        vectors += 2 * size
    table = shape.vocab_size * d
    layers = shape.num_layers * (matrices + vectors) + d
    embedding = table if shape.tie_embeddings else 2 * table
    return Parameters(
        total=embedding + layers,
        embedding=embedding,
        non_embedding=layers,
        matmul=shape.num_layers * matrices + table,
    )


def layer_matrices(shape: ShapeConfig) -> dict[str, tuple[int, int]]:
    """Returns columns and rows, those of inputs and of outputs, of a layer's matrices by name."""
    d, queries, keys = shape.hidden_size, shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    mlp = shape.intermediate_size
    return {
        "q_proj": (d, queries),
        "k_proj": (d, keys),
        "v_proj": (d, keys),
        "o_proj": (queries, d),
        "gate_proj": (d, mlp),
        "up_proj": (d, mlp),
        "down_proj": (mlp, d),
    }


def count_adapters(shape: ShapeConfig, lora: LoraConfig) -> int:
    """Counts the parameters of A (rank × inputs) and B (outputs × rank) of all adapters; 0 without any."""
    sides = (sum(sides) for name, sides in layer_matrices(shape).items() if name in lora.targets)
    return shape.num_layers * lora.rank * sum(sides)


def looks_local(path: str) -> bool:
    """Returns whether a model path means a directory of this machine, and not a hub id ``owner/name``."""
    return os.path.exists(Path(path).expanduser()) or not HUB_ID.fullmatch(path) or "/" not in path


def absolute_path(path: str) -> str:
    """Makes a model's path absolute, so that every process finds it; a hub id stays as it is."""
    return str(Path(path).expanduser().absolute()) if path and looks_local(path) else path


def read_model_json(directory: str, name: str, required: bool = True) -> dict[str, Any]:
    """Reads a JSON file of a model directory; returns ``{}`` if it is absent and not required. Raises ConfigError."""
    path = Path(directory).expanduser() / name
    if not path.is_file() and not required:
        return {}
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            "model.path",
            directory,
            f"the directory has no {name}",
            "give a Hugging Face model directory (config.json, safetensors, tokenizer)",
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError("model.path", directory, *_unreadable(path, error)) from None
    if not isinstance(loaded, dict):
        raise ConfigError("model.path", directory, f"{name} is not a JSON object", "save the model again")
    return loaded


def _unreadable(path: Path, error: Exception) -> tuple[str, str]:
    """Says why a JSON file cannot be read, and what to do."""
    with suppress(OSError):
        if path.read_bytes().startswith(b"version https://git-lfs"):
            return f"{path.name} is a Git LFS pointer, and not the file itself", "fetch it: git lfs pull"
    return f"{path.name} cannot be read: {error}", "copy or save the model again"


def stored_dtype(directory: str) -> str:
    """Returns the dtype of a model as it is published: bfloat16 for the half precisions, else float32."""
    c = read_model_json(directory, "config.json")
    return "bfloat16" if str(c.get("dtype") or c.get("torch_dtype")) in ("bfloat16", "float16") else "float32"


def shape_from_directory(directory: str) -> ShapeConfig:
    """Reads the shape that a directory's ``config.json`` states. Raises ConfigError."""
    c = read_model_json(directory, "config.json")
    if lacking := [name for name in NEEDED if c.get(name) is None]:
        raise ConfigError(
            "model.path",
            directory,
            f"config.json has no {', '.join(lacking)}"
            + (" (the model's context in tokens)" if lacking == ["max_position_embeddings"] else ""),
            "put the model's own config.json there; that of a decoder-only language model (qwen2, qwen3, llama) has it",
        )
    if wrong := [name for name in NEEDED[1:] if not (type(c[name]) is int and c[name] > 0)]:
        reason = ", ".join(f"{name} = {c[name]!r}" for name in wrong)
        raise ConfigError(
            "model.path",
            directory,
            f"config.json says {reason}, which must be a whole number above 0",
            "put the model's own config.json there",
        )
    try:
        heads = int(c["num_attention_heads"])
        hidden = int(c["hidden_size"])
        rope = c.get("rope_parameters") or {}
        theta = rope.get("rope_theta", c.get("rope_theta", 10000.0)) if isinstance(rope, dict) else 10000.0
        return ShapeConfig(
            architecture=str(c["model_type"]),
            vocab_size=int(c["vocab_size"]),
            hidden_size=hidden,
            intermediate_size=int(c["intermediate_size"]),
            num_layers=int(c["num_hidden_layers"]),
            num_heads=heads,
            num_kv_heads=int(c.get("num_key_value_heads") or heads),
            head_dim=int(c.get("head_dim") or hidden // heads),
            attention_bias=bool(c.get("attention_bias", c["model_type"] == "qwen2")),
            tie_embeddings=bool(c.get("tie_word_embeddings", False)),
            context_length=int(c["max_position_embeddings"]),
            rope_theta=float(theta),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ConfigError(
            "model.path",
            directory,
            f"config.json lacks or garbles what a decoder's shape needs: {error!r}",
            "give a decoder-only language model (qwen2, qwen3, llama)",
        ) from None


def effective_shape(config: RunConfig) -> tuple[ShapeConfig, str]:
    """Returns a run's shape and where it is from: a packaged model's own, the model directory's ``config.json`` if it
    is on this machine, else the recipe's ``model.shape``."""
    path = config.model.path
    if path in PACKAGED:
        return PACKAGED[path].shape, f"the packaged model {path}"
    if path and os.path.isfile(Path(path).expanduser() / "config.json"):
        return shape_from_directory(path), f"{path}/config.json"
    return config.model.shape, "the recipe's model.shape"
