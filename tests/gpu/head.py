"""The head on tensor cores against the head in float32: errors, gradients, memory and speed at 152,064 words."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor

from carerl.loss import products
from carerl.loss.head import FactoredLogits, token_statistics
from carerl.regularizers import REGULARIZERS
from tests.gpu.hardware import DEVICE, TOY, peak_gib, seconds
from tests.gpu.report import Report
from tests.loss.rounding import gradient_excess

V, D, N, CHUNK, COMPARED = (512, 64, 96, 32, 16) if TOY else (152_064, 3584, 8192, 1024, 64)
TOKENS = V - (12 if TOY else 399)  # of the head's rows; the others pad it, as Qwen's
SPEED_UP = 3.0  # by the arithmetic of rates it is five


class Inputs:
    """Tokens of a batch: bfloat16 hidden states and heads of policy and reference."""

    def __init__(self, tokens: int, dtype: torch.dtype = torch.bfloat16):
        torch.manual_seed(0)
        self.hidden_ND, self.ref_hidden_ND = (self._drawn(tokens, 1.0).to(dtype) for _ in range(2))
        self.head_VD, self.ref_head_VD = (self._drawn(V, 4 / D**0.5).to(dtype) for _ in range(2))
        self.targets_N = torch.randint(0, V, (tokens,), device=DEVICE)
        self.g_N = torch.randn(tokens, device=DEVICE) / max(tokens, 1)

    @staticmethod
    def _drawn(rows: int, scale: float) -> Tensor:
        return (torch.randn(rows, D, device=DEVICE) * scale).bfloat16()


def as_on_a_gpu() -> AbstractContextManager[object]:
    """Lets a toy run take the products of a GPU."""
    return patch.object(products, "sums_bfloat16_in_float32", lambda device: True) if TOY else nullcontext()


def pass_through(x: Inputs, full: bool, widen: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Takes the head forward and backward. Returns log-probs, and the gradients of hidden states and head.

    ``full``: with the exact divergence from the reference. ``widen``: copies all to float32 first, as is done on the
    CPU.
    """
    entry = REGULARIZERS["srkl"]
    hidden_ND, head_VD = x.hidden_ND.detach().requires_grad_(), x.head_VD.detach().requires_grad_()
    pairs = [(hidden_ND, head_VD), (x.ref_hidden_ND, x.ref_head_VD)]
    policy, reference = (FactoredLogits(h.float(), w.float()) if widen else FactoredLogits(h, w) for h, w in pairs)
    found = token_statistics(
        policy,
        x.targets_N,
        temperature=1.0,
        chunk_tokens=CHUNK,
        reference=reference if full else None,
        exact=entry.build(entry.config()).exact if full else None,
    )
    trained_N = found.divergence_N if full else found.logprobs_N
    assert trained_N is not None
    of_hidden_ND, of_head_VD = torch.autograd.grad((trained_N * x.g_N).sum(), [hidden_ND, head_VD])
    return found.logprobs_N.detach(), of_hidden_ND, of_head_VD


def run(report: Report) -> None:
    """Compares both heads with float64, and with each other in memory and time."""
    with as_on_a_gpu():
        accuracy(report)
        x = Inputs(N)
        for full in (False, True):
            wide, narrow = (partial(pass_through, x, full, widen) for widen in (True, False))
            name = "full" if full else "score"
            of_wide, of_narrow = seconds(wide), seconds(narrow)
            report.tell(f"{name}: us a token in float32", of_wide / N * 1e6)
            report.tell(f"{name}: us a token in bfloat16 with float32 sums", of_narrow / N * 1e6)
            report.at_least(f"{name}: speed-up", of_wide / of_narrow, 0.0 if TOY else SPEED_UP)
            most = peak_gib(wide)
            report.at_most(f"{name}: peak GiB, where float32 takes {most:.1f}", peak_gib(narrow), most)


def certainties(x: Inputs) -> Tensor:
    """Computes the self-certainty of each token."""
    policy = FactoredLogits(x.hidden_ND, x.head_VD, TOKENS)
    found = token_statistics(policy, x.targets_N, temperature=1.0, chunk_tokens=CHUNK)
    assert found.certainty_N is not None
    return found.certainty_N


def accuracy(report: Report) -> None:
    """Compares log-probs, certainty and gradients of a few tokens with float64, and looks at no tokens at all."""
    x = Inputs(COMPARED)
    logprobs_N, *gradients = pass_through(x, full=False, widen=False)
    wide_N, *_ = pass_through(x, full=False, widen=True)
    exact_N, *exact = pass_through(Inputs(COMPARED, torch.float64), full=False, widen=False)
    report.at_most("log-prob error in float32, nats", float((wide_N - exact_N).abs().max()), 1e-4)
    report.at_most(
        "log-prob error in bfloat16 with float32 sums, nats", float((logprobs_N - exact_N).abs().max()), 1e-4
    )
    certainty_gap = (certainties(x) - certainties(Inputs(COMPARED, torch.float64))).abs().max()
    report.at_most("self-certainty error in bfloat16 with float32 sums, nats", float(certainty_gap), 1e-4)
    for name, ours, theirs in zip(("hidden states", "head"), gradients, exact, strict=True):
        report.at_most(f"gradient of {name}: error beyond its own rounding", gradient_excess(ours, theirs), 2.0**-14)
    _, none, of_head = pass_through(Inputs(0), full=True, widen=False)
    report.equal("no tokens: gradients", (none.numel(), int(of_head.count_nonzero())), (0, 0))
