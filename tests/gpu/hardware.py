"""The device of a run, clocks on it, and the work that sections put on it."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

TOY = bool(os.environ.get("TOY"))
DEVICE = torch.device("cpu" if TOY else "cuda")
GIB = 2.0**30

QWEN_7B: dict[str, Any] = {
    "vocab_size": 152_064,
    "hidden_size": 3584,
    "intermediate_size": 18_944,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "num_hidden_layers": 28,
    "tie_word_embeddings": False,
}
QWEN_0_5B: dict[str, Any] = {
    "vocab_size": 151_936,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "num_hidden_layers": 24,
    "tie_word_embeddings": True,
}
QWEN_1_5B: dict[str, Any] = {
    "vocab_size": 151_936,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "num_hidden_layers": 28,
    "tie_word_embeddings": True,
}
TOY_MODEL: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 2,  # of 32: vLLM has no narrower ones on the CPU
    "num_key_value_heads": 1,
    "num_hidden_layers": 2,
    "tie_word_embeddings": False,
}


def synchronize() -> None:
    """Waits until the device has done all its work."""
    if not TOY:
        torch.cuda.synchronize()


def seconds(work: Callable[[], Any], times: int = 2) -> float:
    """Returns the least of some runs of ``work``, after one that does not count."""
    work()
    found = []
    for _ in range(times):
        synchronize()
        start = time.perf_counter()
        work()
        synchronize()
        found.append(time.perf_counter() - start)
    return min(found)


def peak_gib(work: Callable[[], Any]) -> float:
    """Returns the most memory that ``work`` had allocated beyond what was there before; 0 without a GPU."""
    if TOY:
        work()
        return 0.0
    synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work()
    synchronize()
    return (torch.cuda.max_memory_allocated() - before) / GIB


def lengths(rows: int, mean: int, most: int) -> list[int]:
    """Returns lognormal lengths, as responses have them, between a few tokens and ``most``."""
    generator = torch.Generator().manual_seed(0)
    spread = 0.6
    drawn = (torch.randn(rows, generator=generator) * spread + math.log(mean) - spread**2 / 2).exp()
    return [int(length) for length in drawn.clamp(3 if TOY else 16, most)]


def qwen_config(shape: dict[str, Any], layers: int | None = None, spread: float = 0.02) -> Any:
    """Returns the config of a Qwen2 model. ``spread``: the standard deviation of weights that are drawn."""
    from transformers import Qwen2Config

    changed = shape if layers is None else {**shape, "num_hidden_layers": layers}
    config = Qwen2Config(**changed, max_position_embeddings=4096, eos_token_id=0, initializer_range=spread)
    config.architectures = ["Qwen2ForCausalLM"]
    return config


def drawn_model(config: Any, dtype: torch.dtype) -> Any:
    """Returns a model on the device with weights that are drawn, the same in every process."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    with DEVICE:
        return AutoModelForCausalLM.from_config(config, dtype=dtype)


def model_directory(config: Any) -> str:
    """Writes a model's config, in bfloat16, without weights; returns the directory."""
    directory = Path(tempfile.mkdtemp())
    config.dtype = "bfloat16"
    config.save_pretrained(directory)
    return str(directory)


def drawn_directory(config: Any, directory: Path) -> None:
    """Writes a whole model as any loader takes it: bfloat16 weights that are drawn, and a tokenizer of bytes.

    Weights are drawn on the device, a tensor after the other, because 7B take minutes on a host's core. Files are not
    forced to the disk, so that they are read from the host's memory a moment later. Matrices keep the spread of their
    input, and logits spread by one or two nats: an engine that lacks a layer is far off.
    """
    from safetensors.torch import save_file

    from carerl.backends.models import parameter_shapes
    from carerl.tasks.byte_tokenizer import EOS, make_byte_tokenizer

    config.dtype, config.eos_token_id = "bfloat16", EOS
    config.save_pretrained(directory)
    make_byte_tokenizer(context=config.max_position_embeddings).save_pretrained(directory)
    generator = torch.Generator(DEVICE).manual_seed(0)
    weights = {}
    for name, shape in parameter_shapes(str(directory)).items():
        tensor = torch.empty(shape, dtype=torch.bfloat16, device=DEVICE)
        if name.endswith("norm.weight"):
            tensor.fill_(1.0)
        elif name.endswith(".bias"):
            tensor.normal_(0.0, 0.02, generator=generator)
        else:
            outer = "embed_tokens" in name or "lm_head" in name
            tensor.normal_(0.0, (1.5 if outer else 1.0) * shape[-1] ** -0.5, generator=generator)
        weights[name] = tensor.cpu()
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
