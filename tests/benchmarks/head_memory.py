"""Memory of an exact divergence at a real vocabulary: whole tables against chunks, and against the number of tokens.

    python -m tests.benchmarks.head_memory [--tokens 2048] [--vocabulary 152064] [--hidden 64]

One forward and backward pass of skew reverse KL with ``estimator = full`` and of the log-probs, on one CPU thread, each
arm in a process of its own. ``allocated`` is the most that the pass has alive at one time beyond its inputs, and
``resident`` how far the process grew over its size before the pass; both include the gradients of hidden states and
head. ``tables``: the allocated bytes in float32 tables of (tokens at one time) × V. Times are for information.

The plain arm makes both whole tables and leaves them to autograd, with the same divergence function, so that the
divergence itself is as lean there as in the chunks. An arm whose loss or gradients differ from the plain arm's ends the
run.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carerl.loss.head import FactoredLogits, token_statistics
from carerl.regularizers import REGULARIZERS
from tests.allocations import allocations

GIB = 2**30
CHUNKS = (64, 256, 1024)
SCALING_CHUNK = 64


def plain(inputs: dict[str, Tensor], exact: Any) -> Tensor:
    logp_NV = torch.log_softmax(inputs["hidden_ND"] @ inputs["head_VD"].T, dim=-1)
    with torch.no_grad():
        logr_NV = torch.log_softmax(inputs["ref_hidden_ND"] @ inputs["ref_head_VD"].T, dim=-1)
        # entropy and reverse KL, which every path reports
        (logp_NV.exp() * logp_NV).sum(-1), (logp_NV.exp() * (logp_NV - logr_NV)).sum(-1)
    return logp_NV.gather(-1, inputs["target_ids_N"][:, None]).mean() + exact(logp_NV, logr_NV).mean()


def chunked(inputs: dict[str, Tensor], exact: Any, chunk: int) -> Tensor:
    stats = token_statistics(
        FactoredLogits(inputs["hidden_ND"], inputs["head_VD"]),
        inputs["target_ids_N"],
        temperature=1.0,
        chunk_tokens=chunk,
        reference=FactoredLogits(inputs["ref_hidden_ND"], inputs["ref_head_VD"]),
        exact=exact,
    )
    assert stats.divergence_N is not None
    return stats.logprobs_N.mean() + stats.divergence_N.mean()


def inputs_of(tokens: int, vocabulary: int, hidden: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = {
        "hidden_ND": torch.randn(tokens, hidden, generator=generator),
        "head_VD": torch.randn(vocabulary, hidden, generator=generator) / hidden**0.5,
    }
    made |= {
        f"ref_{name}": tensor + 0.3 * torch.randn(tensor.shape, generator=generator) for name, tensor in made.items()
    }
    made["target_ids_N"] = torch.randint(0, vocabulary, (tokens,), generator=generator)
    for name in ("hidden_ND", "head_VD"):
        made[name].requires_grad_()
    return made


def arm(tokens: int, vocabulary: int, hidden: int, chunk: int) -> dict[str, float]:
    """One arm, in this process; ``chunk`` 0: whole tables."""
    torch.set_num_threads(1)
    entry = REGULARIZERS["srkl"]
    exact = entry.build(entry.config()).exact

    def loss_of(inputs: dict[str, Tensor]) -> Tensor:
        return chunked(inputs, exact, chunk) if chunk else plain(inputs, exact)

    loss_of(inputs_of(8, 100, hidden)).backward()  # what is set up once, is set up here
    inputs = inputs_of(tokens, vocabulary, hidden)
    found: dict[str, float] = {}

    def step() -> None:
        start = time.perf_counter()
        loss = loss_of(inputs)
        loss.backward()
        found["seconds"] = time.perf_counter() - start
        found["loss"] = float(loss.detach())

    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    found["allocated"] = allocations(step).peak
    found["resident"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    for name in ("hidden_ND", "head_VD"):
        gradient = inputs[name].grad
        assert gradient is not None
        found[name] = float(gradient.double().norm())
    return found


def in_own_process(*shape: int) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.benchmarks.head_memory", "--arm", *map(str, shape)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(done.stdout)


def row(name: str, tokens: int, vocabulary: int, found: dict[str, float], unit: int) -> str:
    tables = found["allocated"] / (4 * unit * vocabulary)
    allocated, resident = found["allocated"] / GIB, found["resident"] / GIB
    return f"| {name} | {tokens} | {allocated:.3f} | {resident:.3f} | {tables:.1f} | {found['seconds']:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--vocabulary", type=int, default=152_064)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--arm", type=int, nargs=4, metavar=("T", "V", "D", "C"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        print(json.dumps(arm(*options.arm)))
        return
    tokens, vocabulary, hidden = options.tokens, options.vocabulary, options.hidden
    print(f"V {vocabulary}, d {hidden}, float32, one thread, torch {torch.__version__}\n")
    print("| arm | tokens | allocated, GiB | resident, GiB | tables | seconds |")
    print("|---|---|---|---|---|---|", flush=True)
    whole = in_own_process(tokens, vocabulary, hidden, 0)
    print(row("whole tables", tokens, vocabulary, whole, tokens), flush=True)
    for chunk in CHUNKS:
        found = in_own_process(tokens, vocabulary, hidden, chunk)
        for name in ("loss", "hidden_ND", "head_VD"):
            if abs(found[name] - whole[name]) > 1e-4 * abs(whole[name]):
                raise SystemExit(f"chunks of {chunk}: {name} {found[name]} is not {whole[name]}")
        print(row(f"chunks of {chunk}", tokens, vocabulary, found, min(chunk, tokens)), flush=True)
    for many in (tokens // 4, tokens // 2, tokens, 2 * tokens, 4 * tokens):
        found = in_own_process(many, vocabulary, hidden, SCALING_CHUNK)
        print(row(f"chunks of {SCALING_CHUNK}", many, vocabulary, found, SCALING_CHUNK), flush=True)


if __name__ == "__main__":
    main()
