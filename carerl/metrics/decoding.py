"""The metrics of decoding: what each method of inference makes of a suite, and how methods differ.

``carerl.runs.decoding`` computes them. A difference is to ``self_consistency`` on the same questions.
"""

from __future__ import annotations

from .table import At, Metric, declare

DECODING = (
    Metric(
        "decode/{suite}/{method}/accuracy",
        "share",
        "questions whose elected answer is right",
        label="{suite}, {method}: accuracy",
        better=+1,
        shown={"decoding": At(0, "accuracy"), "workspace/decoding": At(1)},
    ),
    Metric(
        "decode/{suite}/{method}/equal_budget_gain",
        "share",
        "accuracy less that of self-consistency, each with its whole budget",
        label="{suite}, {method}: accuracy less self-consistency's, equal K",
        better=+1,
        shown={"decoding": At(1, "less SC, equal K")},
    ),
    Metric(
        "decode/{suite}/{method}/equal_tokens_gain",
        "share",
        "accuracy less that of self-consistency, both with the mean tokens a question of the cheaper one; absent where "
        "that is less than one response of the other",
        label="{suite}, {method}: accuracy less self-consistency's, equal tokens",
        better=+1,
        shown={"decoding": At(2, "less SC, equal tokens"), "workspace/decoding": At(2)},
    ),
    Metric(
        "decode/{suite}/{method}/tokens",
        "tokens/question",
        "tokens drawn for a question, pruned ones included, each once",
        label="{suite}, {method}: tokens",
        better=-1,
        digits=1,
        shown={"decoding": At(3, "tokens"), "workspace/decoding": At(3)},
    ),
    Metric(
        "decode/{suite}/{method}/seconds",
        "s/question",
        "wall seconds of the method on the suite, which has the engines to itself, divided by its questions",
        label="{suite}, {method}: seconds",
        better=-1,
        digits=2,
        shown={"decoding": At(4, "s/question")},
    ),
    Metric(
        "decode/{suite}/{method}/ece",
        "share",
        "ECE of the elected answer's share of the votes' weight",
        label="{suite}, {method}: ECE",
        better=-1,
        biased=True,
        shown={"decoding": At(5, "ECE"), "workspace/decoding": At(4)},
    ),
    Metric(
        "decode/{suite}/{method}/brier",
        "share",
        "Brier score of that share",
        label="{suite}, {method}: Brier",
        better=-1,
        shown={"decoding": At(6, "Brier")},
    ),
    Metric(
        "decode/{suite}/{method}/auroc",
        "share",
        "AUROC of that share for the answer being right",
        label="{suite}, {method}: AUROC",
        better=+1,
        shown={"decoding": At(7, "AUROC")},
    ),
    Metric(
        "decode/{suite}/{method}/confidence",
        "share",
        "mean share of the votes' weight that the elected answer has",
        label="{suite}, {method}: confidence",
    ),
    Metric(
        "decode/{suite}/{method}/unparsed",
        "share",
        "questions without any answer to elect",
        label="{suite}, {method}: no answer",
        better=-1,
        shown={"decoding": At(8, "no answer")},
    ),
    Metric(
        "decode/{suite}/{method}/branches",
        "branches/question",
        "branches of a question, pruned ones included",
        label="{suite}, {method}: branches",
        digits=1,
        shown={"decoding": At(9, "branches")},
    ),
    Metric(
        "decode/{suite}/{method}/pruned",
        "share",
        "branches that the method ended, which have no vote",
        label="{suite}, {method}: pruned",
        shown={"decoding": At(10, "pruned")},
    ),
    Metric(
        "decode/{suite}/{method}/rounds",
        "rounds/question",
        "times that the engine was waited for",
        label="{suite}, {method}: rounds",
        digits=1,
        shown={"decoding": At(11, "rounds")},
    ),
    Metric(
        "decode/{suite}/{method}/questions",
        "questions",
        "questions that were decoded",
        label="{suite}, {method}: questions",
        digits=0,
    ),
    Metric(
        "decode/{suite}/{method}/threshold",
        "1",
        "the mean confidence below which a method ends a branch or gives it no vote, on the method's own scale",
        label="{suite}, {method}: threshold",
        shown={"decoding": At(12, "threshold")},
    ),
    Metric(
        "decode/{suite}/{method}/confidence_width",
        "1",
        "mean width of the interval that holds the confidence (1 - entropy / log V) of a question's tokens: 0 where "
        "the engine shows whole distributions, more where it shows the likeliest tokens alone",
        label="{suite}, {method}: width of the confidence's interval",
        digits=4,
        shown={"decoding": At(13, "confidence width")},
    ),
)

declare(*DECODING)
