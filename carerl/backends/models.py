"""Makes, loads and saves Hugging Face model directories.

Weights are safetensors only, and ``trust_remote_code`` is off unless a recipe turns it on.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from carerl.backends.hashed import Written
from carerl.backends.initial import init_tiny
from carerl.backends.weight_files import write_weights
from carerl.backends.whole_checkpoint import check_weights, refuse_not_finite
from carerl.config.schema import ShapeConfig
from carerl.config.stored_weights import refusal
from carerl.tasks import byte_tokenizer

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float64": torch.float64,
}


def make_model(
    shape: ShapeConfig, stop_ids: tuple[int, ...], initialise: Callable[[nn.Module], None] | None = None
) -> Any:
    """Makes a fresh model of the given shape, float32, on the CPU. ``initialise`` overwrites its weights in place."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        shape.architecture,
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        attention_bias=shape.attention_bias,
        tie_word_embeddings=shape.tie_embeddings,
        max_position_embeddings=shape.context_length,
        rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
        eos_token_id=list(stop_ids) if len(stop_ids) != 1 else stop_ids[0],
        bos_token_id=None,
        pad_token_id=0,
        use_cache=True,
    )
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.config.architectures = [type(model).__name__]  # vLLM chooses its implementation by it
    if initialise is not None:
        initialise(model)
    return model


def make_base_bytes(directory: Path, seed: int, shape: ShapeConfig, dtype: str = "float32") -> None:
    """Writes an untrained model that reads bytes, and its tokenizer, for trying the pipeline on real text.

    The weights are drawn like the tiny world's and depend on ``seed`` and ``shape`` alone. Raises ValueError for a
    vocabulary that is not the tokenizer's: with a larger one the model would sample tokens without a meaning.
    """
    if shape.vocab_size != byte_tokenizer.VOCAB_SIZE:
        raise ValueError(f"vocab_size = {shape.vocab_size}: the byte tokenizer has {byte_tokenizer.VOCAB_SIZE} tokens")
    generator = torch.Generator().manual_seed(seed)
    model = make_model(shape, (byte_tokenizer.EOS,), lambda made: init_tiny(made, generator))
    weights = {name: parameter.detach().to(DTYPES[dtype]) for name, parameter in model.named_parameters()}
    tokenizer = byte_tokenizer.make_byte_tokenizer(context=shape.context_length)
    model.config.dtype = dtype
    save_model(directory, model.config, weights, tokenizer)


def load_model(path: str, dtype: str, trust_remote_code: bool = False) -> Any:
    """Loads the causal language model of a directory, on the CPU.

    Raises ConfigError if a tensor is missing, has another shape or is not finite: nothing is drawn at random instead.
    """
    from transformers import AutoModelForCausalLM

    check_weights(path, trust_remote_code)
    model, found = AutoModelForCausalLM.from_pretrained(
        path, dtype=DTYPES[dtype], trust_remote_code=trust_remote_code, use_safetensors=True, output_loading_info=True
    )
    if lacking := sorted(found["missing_keys"]) + sorted(str(key) for key in found["mismatched_keys"]):
        reason = f"{len(lacking)} of its tensors are not in its files: {', '.join(lacking[:3])}"
        raise refusal(path, reason, "give the whole checkpoint")
    refuse_not_finite(path, model.named_parameters())
    return model


def parameter_shapes(path: str, trust_remote_code: bool = False) -> dict[str, tuple[int, ...]]:
    """Returns names and shapes of a model's parameters from its config.json alone. No weight is read or made.

    A head tied to the embedding is not a parameter of its own.
    """
    model = model_on_meta(path, trust_remote_code)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def model_on_meta(path: str, trust_remote_code: bool = False) -> Any:
    """Makes the model of a directory's config.json on the meta device, where nothing has memory."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)


def load_tokenizer(path: str, trust_remote_code: bool = False) -> Any:
    """Loads the tokenizer of a model directory."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)


def end_ids(path: str, trust_remote_code: bool = False) -> tuple[int, ...]:
    """Returns the tokens that end a response according to the model's own files.

    They are ``eos_token_id`` of ``generation_config.json``, or of ``config.json`` if that file is missing. An
    instruction model's list may hold more tokens than the one that its tokenizer names.
    """
    from transformers import AutoConfig, GenerationConfig

    try:
        stated = GenerationConfig.from_pretrained(path).eos_token_id
    except OSError:
        stated = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code).eos_token_id
    return tuple(stated) if isinstance(stated, list) else () if stated is None else (int(stated),)


def save_model(
    directory: Path, config: Any, weights: Mapping[str, Tensor], tokenizer: Any, ends: Sequence[int] = ()
) -> dict[str, Written]:
    """Writes config, tokenizer and safetensors so that transformers and vLLM load them like any other model. Returns
    the files of the weights, by their paths; they are on the disk then.

    ``ends``: tokens that ended its responses. Both configs name them beside the one of ``config``, because servers stop
    at the tokens that these files name.
    """
    directory.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(config)
    stated = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    every = list(dict.fromkeys(token for token in (*stated, *ends) if token is not None))
    config.eos_token_id = every if len(every) > 1 else every[0] if every else None
    config.save_pretrained(directory)
    if tokenizer is not None:
        tokenizer.save_pretrained(directory)
    generation = {"eos_token_id": config.eos_token_id, "pad_token_id": config.pad_token_id, "do_sample": True}
    (directory / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    return write_weights(directory, weights)
