"""The metrics of gains and of hybrid tuning: how steps strengthen answers, and what responses and traces weigh."""

from __future__ import annotations

from .table import At, Metric, declare

_STATED = "means over the step's responses that say an answer"


def _auroc(way: str, words: str) -> Metric:
    return Metric(
        f"gain/{way}_auroc",
        "1",
        f"how well {words} ranks right answers above wrong ones; .5 tells nothing",
        label=f"AUROC of {words}",
        better=+1,
        shown={"curves/gain_auroc": At(0, words), "workspace/gains": At()},
    )


GAIN = (
    Metric(
        "gain/progressive",
        "1",
        f"progressive gain of the answer's support over the steps, last one included; negligible ones are 0; {_STATED}",
        label="progressive gain",
        short="gain",
        digits=3,
        shown={"step": At(9), "curves/gain": At(0, "all steps"), "workspace/gains": At()},
    ),
    Metric(
        "gain/without_last",
        "1",
        f"the same without the last step, which often states the answer; {_STATED}",
        digits=3,
        shown={"curves/gain": At(1, "without the last"), "workspace/gains": At()},
    ),
    Metric("gain/total", "nats/token", f"by how much all steps raise the answer's support; {_STATED}"),
    Metric("gain/unknown", "share", "responses whose answer was not found in their tokens: they have no gain"),
    Metric(
        "gain/negligible",
        "share",
        "responses whose steps change their answer's support by less than distillation.least in total, of those that "
        "say an answer: their gain is 0",
    ),
    _auroc("progressive", "the progressive gain"),
    _auroc("without_last", "the gain without the last step"),
    _auroc("unfiltered", "the progressive gain, negligible ones included,"),
    _auroc("total", "the total gain"),
)
DISTILLATION = (
    Metric(
        "distillation/response_weight",
        "1",
        "mean weight of the responses' policy terms",
        shown={"curves/weights": At(0, "responses"), "workspace/gains": At()},
    ),
    Metric(
        "distillation/trace_weight",
        "1",
        "weight of the traces, before distillation.weight",
        shown={"curves/weights": At(1, "traces"), "workspace/gains": At()},
    ),
    Metric(
        "distillation/cross_entropy",
        "nats/token",
        "cross-entropy of the traces' tokens at the sampling temperature, before any weight; absent where they weigh 0",
        label="cross-entropy of traces",
        short="traces ce",
        better=-1,
        digits=4,
        shown={"step": At(10), "curves/traces": At(), "workspace/gains": At()},
    ),
    Metric("distillation/tokens", "tokens", "response tokens of the step's traces, each counted once", digits=0),
    Metric("distillation/share", "share", "of the response tokens that are trained, those of traces"),
    Metric(
        "time/feedback",
        "s",
        "scoring responses for internal rewards and gains",
        shown={"time": At()},
    ),
)

declare(*GAIN, *DISTILLATION)
