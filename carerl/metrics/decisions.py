"""The metrics of decisions that every task with closed options shares: in training, and after a foreign trace."""

from __future__ import annotations

from .table import At, Metric, declare

# Logged where decisions are looked for. A probability is that of the whole vocabulary.
DECISION = (
    Metric(
        "decision/found",
        "share",
        "responses with a token that names an option",
        shown={"curves/decisions": At(0, "responses with a decision"), "workspace/decisions": At()},
    ),
    Metric(
        "decision/right",
        "share",
        "decisions that name a right option",
        better=+1,
        shown={"curves/decisions": At(0, "right"), "workspace/decisions": At()},
    ),
    Metric(
        "decision/unlikely",
        "share",
        "decisions that do not name the likeliest option",
        shown={"curves/decisions": At(0, "not the likeliest option"), "workspace/decisions": At()},
    ),
    Metric(
        "decision/probability",
        "share",
        "mean probability of the decision's token",
        shown={"curves/decisions": At(0, "probability, mean"), "workspace/decisions": At()},
    ),
    Metric(
        "decision/bounded",
        "share",
        "decisions whose cross-entropy is off, as their probability is not above the bound",
        shown={"curves/decisions": At(0, "bounded"), "workspace/decisions": At()},
    ),
    Metric(
        "decision/cross_entropy",
        "nats/decision",
        "mean cross-entropy at decisions, without its weight, bounded ones too",
        better=-1,
        shown={"curves/decision_loss": At(0, "mean"), "workspace/decisions": At()},
    ),
)

# of decisions after the trace of another question, for any task with decisions (carerl.controller.trace_swap)
SWAP = (
    Metric(
        "eval/{suite}/swap_flips",
        "share",
        "decisions that the trace of a question with another decision changes",
        label="{suite} flips",
        shown={
            "suites": At(6),
            "evaluation": At(1, "flipped by a foreign trace"),
            "decisions": At(4, "flips"),
            "workspace/decisions": At(3),
        },
    ),
    Metric(
        "eval/{suite}/swap_followed",
        "share",
        "decisions that become the likeliest option of the foreign trace",
        label="{suite} followed flips",
        shown={"evaluation": At(1, "  to its own decision")},
    ),
    Metric(
        "eval/{suite}/swap_probability",
        "share",
        "mean probability of the likeliest option after the foreign trace",
        label="{suite} p after a swap",
        shown={"evaluation": At(1, "  p of the new decision"), "workspace/decisions": At(4)},
    ),
    Metric(
        "eval/{suite}/swap_unpaired",
        "samples",
        "samples with a decision for which no question has another decision",
        label="{suite} samples without an opposite",
        digits=0,
        shown={"evaluation": At(1, "  no opposite example")},
    ),
)

declare(*DECISION, *SWAP)
