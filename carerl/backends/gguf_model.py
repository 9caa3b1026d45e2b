"""Converts a GGUF file of a llama model with a byte-level BPE vocabulary to a Hugging Face model directory.

    PYTHONPATH=gguf-….whl python -m carerl.backends.gguf_model FILE.gguf DIRECTORY float32|bfloat16

It runs in a process of its own because it needs the package ``gguf``, which carerl does not install: its wheel on
``PYTHONPATH`` is enough.

Dequantised values are exact in float32; for bfloat16 they are rounded once. Tensors and tokenizer are read here and not
by transformers' own reader. Its weights are the same, but its tokenizer does not split numbers into digits
(``tokenizer.ggml.pre = smollm``), it needs a further package, and it refuses to save what it loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carerl.backends.models import DTYPES, save_model

SPECIAL = 3  # GGUF's token type of control tokens
MODULES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
OUTSIDE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}


def convert(file: Path, directory: Path, dtype: str) -> None:
    """Writes config, weights, tokenizer with chat template, and generation settings of ``file``.

    Weights are stored in ``dtype``, which config.json names too. Raises ValueError if the file holds another kind of
    model.
    """
    from gguf import GGUFReader, dequantize

    reader = GGUFReader(file)
    facts = {name: field.contents() for name, field in reader.fields.items()}
    kind = tuple(facts.get(f"{key}") for key in ("general.architecture", "tokenizer.ggml.model", "tokenizer.ggml.pre"))
    if kind != ("llama", "gpt2", "smollm"):
        raise ValueError(f"{file.name}: architecture, vocabulary and split are {kind}, not llama, gpt2 and smollm")
    stored = ((tensor.name, dequantize(tensor.data, tensor.tensor_type)) for tensor in reader.tensors)
    heads, kv_heads = facts["llama.attention.head_count"], facts["llama.attention.head_count_kv"]
    weights = {name: weight.to(DTYPES[dtype]) for name, weight in renamed(stored, heads, kv_heads)}
    config = make_config(facts, dtype, tied="lm_head.weight" not in weights)
    save_model(directory, config, weights, make_tokenizer(facts))


def renamed(stored: Iterator[tuple[str, np.ndarray]], heads: int, kv_heads: int) -> Iterator[tuple[str, Tensor]]:
    """Yields each tensor under transformers' name, float32, with its rows in transformers' order."""
    for name, weight in stored:
        if name in OUTSIDE:
            yield OUTSIDE[name], torch.from_numpy(np.array(weight, np.float32))
            continue
        _, layer, part, kind = name.split(".")
        if part in ("attn_q", "attn_k"):
            weight = half_by_half(weight, heads if part == "attn_q" else kv_heads)
        yield f"model.layers.{layer}.{MODULES[part]}.{kind}", torch.from_numpy(np.array(weight, np.float32))


def half_by_half(weight_RD: np.ndarray, heads: int) -> np.ndarray:
    """Reorders the rows of a query or key matrix.

    GGUF's rotary embedding turns neighbouring rows of a head (0 with 1, 2 with 3, …); transformers' turns row i
    with row i + half. So a head's even rows come first and its odd rows after them.
    """
    rows, columns = weight_RD.shape
    return weight_RD.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def make_config(facts: Mapping[str, Any], dtype: str, tied: bool) -> Any:
    """Makes the ``LlamaConfig`` that the file states. ``tied``: the head is the embedding."""
    from transformers import LlamaConfig

    config = LlamaConfig(
        vocab_size=facts["llama.vocab_size"],
        hidden_size=facts["llama.embedding_length"],
        intermediate_size=facts["llama.feed_forward_length"],
        num_hidden_layers=facts["llama.block_count"],
        num_attention_heads=facts["llama.attention.head_count"],
        num_key_value_heads=facts["llama.attention.head_count_kv"],
        head_dim=facts["llama.rope.dimension_count"],
        max_position_embeddings=facts["llama.context_length"],
        # GGUF holds it in float32: 1e-5 is 9.99999974e-06 there
        rms_norm_eps=float(f"{facts['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        rope_parameters={"rope_type": "default", "rope_theta": float(facts["llama.rope.freq_base"])},
        tie_word_embeddings=tied,
        bos_token_id=facts["tokenizer.ggml.bos_token_id"],
        eos_token_id=facts["tokenizer.ggml.eos_token_id"],
        pad_token_id=facts["tokenizer.ggml.padding_token_id"],
        dtype=dtype,
    )
    config.architectures = ["LlamaForCausalLM"]  # vLLM chooses its implementation by it
    return config


def make_tokenizer(facts: Mapping[str, Any]) -> Any:
    """Makes the fast tokenizer that the file describes, with its chat template.

    Digits are split one by one before GPT-2's own split: that is what the file's ``smollm`` means.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = facts["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in facts["tokenizer.ggml.merges"]]
    backend = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    special = [token for token, kind in zip(tokens, facts["tokenizer.ggml.token_type"], strict=True) if kind == SPECIAL]
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    named = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=facts["llama.context_length"],
        padding_side="right",
        clean_up_tokenization_spaces=False,
        **{f"{ours}_token": tokens[facts[f"tokenizer.ggml.{theirs}_token_id"]] for ours, theirs in named.items()},
    )
    tokenizer.chat_template = facts["tokenizer.chat_template"]
    return tokenizer


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
