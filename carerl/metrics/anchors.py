"""The metrics of anchors: what holds the policy on prompts that no reward sees, and what it costs."""

from __future__ import annotations

from .table import At, Metric, declare

ANCHOR = (
    Metric(
        "anchor/divergence",
        "nats/token",
        "divergence at the tokens of anchors, or their cross-entropy (ce); without its weight",
        label="anchor divergence",
        short="anchor div",
        better=-1,
        digits=4,
        shown={"step": At(8), "curves/anchor": At(0, "per token"), "workspace/anchors": At()},
    ),
    Metric("anchor/loss", "nats", "the loss of anchors, its weight included", shown={"workspace/anchors": At()}),
    Metric("anchor/tokens", "tokens", "response tokens of the step's anchors, each counted once", digits=0),
    Metric(
        "anchor/share",
        "share",
        "of the response tokens that are trained, those of anchors",
        shown={"workspace/anchors": At()},
    ),
    Metric(
        "train/tokens",
        "tokens",
        "response tokens that are trained in a step, anchors and traces included: equal compute is compared by them",
        digits=0,
    ),
    Metric(
        "train/grad_norm_anchor",
        "1",
        "gradient norm of the anchors' part alone, in the first minibatch",
        shown={"curves/gradient": At(1, "anchors"), "workspace/gradients": At()},
    ),
    Metric("time/anchors", "s", "answering the step's anchors, by the policy", shown={"time": At()}),
    Metric("time/anchors_first", "s", "answering the anchors of all steps before the first one, by the reference"),
)

declare(*ANCHOR)
