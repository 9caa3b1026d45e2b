"""How far an engine's log-probs are from the learner's at the same weights, and what faults of a sync add to that.

    python -m tests.benchmarks.parity_gaps MODEL_DIR [--engine vllm] [--dtype bfloat16] [--fault none …] [--lr 1e-6]
                                           [--prompts 32] [--samples 4] [--tokens 256] [--filler 0]

MODEL_DIR is a Hugging Face directory. The engine samples at temperature 1; the learner (FSDP2, one rank, float32
weights, ``compute_dtype`` as the engine's) scores what was sampled. Prompts are GSM8K's training questions, from beside
the repository, in the model's chat template if it has one; ``--filler`` puts so many tokens of other questions in front
of each, for positions as in long responses. A line a fault:

``none``   the engine holds the learner's weights
``layer``  the middle layer's weights are others
``head``   the tied head is that of before one optimizer step of ``--lr``: vLLM's packed copy is not made again
``stale``  all weights are those of before that step
``rope``   the engine's rope base is a tenth of the model's; its own process, since an engine is built for it
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from carerl.backends.engines import ENGINES
from carerl.backends.engines import vllm as vllm_engine
from carerl.backends.models import load_tokenizer
from carerl.loss.parity import Gaps
from carerl.types import Sampling
from tests.backends.learners.parity_models import Pair, other_numbers, settings, with_rope_base
from tests.backends.learners.ranks import alone
from tests.tasks.shared_data import DATA

FAULTS = ("none", "layer", "head", "stale", "rope")


def prompts(model_dir: Path, number: int, filler: int) -> list[tuple[int, ...]]:
    tokenizer = load_tokenizer(str(model_dir))
    with open(DATA / "gsm8k_train.jsonl", encoding="utf-8") as file:
        texts = [json.loads(line)["question"] for line in file]
    before: list[int] = tokenizer.encode(" ".join(texts[number : number + 200]), add_special_tokens=False)
    found = []
    for k, text in enumerate(texts[:number]):
        ids = tokenizer.encode(text)
        if tokenizer.chat_template:
            chat = tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
            )
            ids = tokenizer.encode(chat, add_special_tokens=False)
        found.append((*before[k : k + filler], *ids))
    return found


def row(dtype: str, fault: str, differences_N: Tensor) -> str:
    gaps = Gaps()
    gaps.add(differences_N)
    found = gaps.statistics()
    gap_N = differences_N.double().abs().numpy()
    exact = np.quantile(gap_N, [0.5, 0.9, 0.99, 0.999, 0.9999], method="inverted_cdf")
    apart = float((gap_N > np.log(1.1)).mean())
    figures = [found.mean, *exact[:3], found.q999, exact[4], found.largest]
    assert abs(found.q999 - exact[3]) <= 0.012 * exact[3] or len(gap_N) < 2000
    return f"| {dtype} | {fault} | {len(gap_N)} | {' | '.join(f'{x:.2g}' for x in figures)} | {apart:.3f} |"


def measure(options: argparse.Namespace) -> None:
    words = [
        "rollout.max_model_len=4096", "rollout.kv_cache_gib=2", "rollout.max_batch_rows=64",
        "learner.micro_batch_rows=4", "learner.head_chunk_tokens=512",
    ]  # fmt: skip
    config = settings(options.dtype, f"model.path={options.model}", *words)
    asked = prompts(options.model, options.prompts, options.filler)
    sampling = Sampling(options.samples, 1.0, options.tokens, seed=1, stop_ids=())
    with tempfile.TemporaryDirectory() as folder:
        engine_dir = options.model
        if options.fault == ["rope"]:
            base = json.loads((options.model / "config.json").read_text())["rope_parameters"]["rope_theta"]
            engine_dir = with_rope_base(options.model, Path(folder) / "model", base / 10)
        engine = ENGINES[options.engine].build(config, str(engine_dir))
        with alone():
            pair = Pair.of(config, engine, options.model)
            for fault in options.fault:
                groups = made(pair, fault, asked, sampling, options.lr)
                print(row(options.dtype, fault, pair.differences(groups)), flush=True)


def made(pair: Pair, fault: str, asked: Any, sampling: Sampling, lr: float) -> Any:
    """What the engine samples with the fault."""
    weights = pair.weights()
    layers = pair.learner.hf_config.num_hidden_layers
    pair.send(other_numbers(weights, f"model.layers.{layers // 2}.") if fault == "layer" else weights)
    groups = pair.groups(asked, sampling)
    if fault in ("head", "stale"):
        pair.step(groups, lr)
        if fault == "head":
            packed, vllm_engine.repack_tied_head = vllm_engine.repack_tied_head, _leave_head
            pair.send(pair.weights())
            vllm_engine.repack_tied_head = packed
        groups = pair.groups(asked, sampling)
    return groups


def _leave_head(model: Any) -> None:
    """In place of :func:`carerl.backends.engines.vllm.repack_tied_head`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--engine", default="vllm", choices=("vllm", "hf"))
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument("--fault", nargs="+", default=["none"], choices=FAULTS)
    parser.add_argument("--lr", type=float, default=1e-6)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--filler", type=int, default=0)
    options = parser.parse_args()
    if "rope" in options.fault and len(options.fault) > 1:
        rest = [word for word in sys.argv[1:] if word != "rope"]
        subprocess.run([sys.executable, "-m", "tests.benchmarks.parity_gaps", *rest], check=True)
        options.fault = ["rope"]
    else:
        print("| dtype | fault | tokens | mean | 50 % | 90 % | 99 % | 99.9 % | 99.99 % | largest | ratio beyond 1.1 |")
        print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    measure(options)


if __name__ == "__main__":
    main()
