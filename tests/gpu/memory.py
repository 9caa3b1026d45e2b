"""How much of a card torch's allocator wastes on rows of changing lengths, with segments that grow and without."""

from __future__ import annotations

import random

import torch

from carerl.backends.allocator import grow_segments
from carerl.config.plan.memory import GIB
from tests.gpu.hardware import DEVICE
from tests.gpu.report import Report

WIDTH, LAYERS, STEPS, LONGEST = 3584, 28, 40, 8192
MOST = 0.05  # of what is reserved


def run(report: Report) -> None:
    """Tells the share of the reserved memory that is in no tensor, at the peaks; that of growing segments has a bar."""
    for grown in (False, True):
        torch.cuda.empty_cache()
        grow_segments(grown, {})
        torch.cuda.reset_peak_memory_stats()
        _activations()
        reserved, allocated = torch.cuda.max_memory_reserved() / GIB, torch.cuda.max_memory_allocated() / GIB
        report.tell(f"growing segments {grown}: reserved and allocated, GiB", (reserved, allocated))
        if grown:
            report.at_most("share of fragmentation", (reserved - allocated) / reserved, MOST)
    grow_segments(False, {})


def _activations() -> None:
    """Keeps tensors of a micro-batch's layers and lets go of them, as a forward and a backward pass do."""
    chooser = random.Random(0)
    for _ in range(STEPS):
        tokens = chooser.randrange(256, LONGEST)
        kept = []
        for _ in range(LAYERS):
            kept += [torch.empty(tokens, width, dtype=torch.bfloat16, device=DEVICE) for width in (WIDTH, 2 * WIDTH)]
        while kept:
            kept.pop()
