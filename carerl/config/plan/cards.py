"""Finds the GPU that a plan counts with, and checks that it can do what the settings ask for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from carerl.config.roles import actor_groups
from carerl.config.schema import RunConfig
from carerl.config.schema.cards import ASSUMED, CARDS, Card
from carerl.errors import ConfigError


def card_of(config: RunConfig) -> Card:
    """Returns the card that a run names, or the assumed one. Figures that the settings give replace the card's."""
    c = config.cluster
    given = {"memory_gib": c.gpu_memory_gib, "bf16_tflops": c.gpu_tflops, "bandwidth_tbps": c.gpu_bandwidth_tbps}
    return replace(CARDS[c.gpu or ASSUMED], **{name: value for name, value in given.items() if value})


def is_named(config: RunConfig) -> bool:
    """Returns whether the settings say how much memory a GPU has. If not, the user's cards may be larger."""
    return bool(config.cluster.gpu or config.cluster.gpu_memory_gib)


def describe_card(config: RunConfig) -> str:
    """Says in one line which figures a plan counts with, and how to change them."""
    card, own = card_of(config), config.cluster
    figures = (
        f"{card.memory_gib:g} GiB, {card.bf16_tflops:g} TFLOP/s in bfloat16, {card.fp32_tflops:g} in float32, "
        f"{card.bandwidth_tbps:g} TB/s"
    )
    changed = [n for n in ("gpu_memory_gib", "gpu_tflops", "gpu_bandwidth_tbps") if getattr(own, n)]
    changes = f" ({', '.join(changed)} as given)" if changed else ""
    named = own.gpu or f"none is named, {ASSUMED} is assumed"
    more = "for another card write" if own.gpu else "write"
    return f"{named}: {figures}{changes}; {more} cluster.gpu=, one of {', '.join(CARDS)}"


def card_pairings(c: RunConfig) -> Iterator[ConfigError]:
    """Yields an error where a card without bfloat16 is to compute in it, or to sample the same in every batch."""
    on_gpu = {group.role for group in actor_groups(c) if group.gpus_each}
    if not on_gpu or not c.cluster.gpu or CARDS[c.cluster.gpu].bf16_tflops:
        return
    if c.rollout.batch_invariant and "rollout" in on_gpu:  # compute capability 8.0 has both
        reason = "vLLM's batch-invariant kernels need compute capability 8.0, and this card has less"
        yield ConfigError("cluster.gpu", c.cluster.gpu, reason, "write rollout.batch_invariant=false")
    dtypes = {
        "model.dtype": c.model.dtype if "rollout" in on_gpu else "",
        "learner.compute_dtype": c.learner.compute_dtype if "learner" in on_gpu else "",
        "judge.dtype": c.judge.dtype if "judge" in on_gpu else "",
        "reference.compute_dtype": c.reference.compute_dtype if "reference" in on_gpu else "",
    }
    narrow = [name for name, dtype in dtypes.items() if dtype == "bfloat16"]
    if narrow:
        yield ConfigError(
            "cluster.gpu",
            c.cluster.gpu,
            f"it has no bfloat16, which {' and '.join(narrow)} ask{'s' if len(narrow) == 1 else ''} for",
            "write " + " ".join(f"{name}=float32" for name in narrow) + ", or use another card",
        )
