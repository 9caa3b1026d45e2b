"""The metrics of a text suite, as :mod:`.text_evaluation` makes them, and what the benchmarks are called.

The order is that of the rows of an evaluation's table.
"""

from __future__ import annotations

from typing import Any

from carerl.metrics import At, Metric
from carerl.types import Outcome

from .estimates import (
    accuracy_interval,
    ece_interval,
    hallucination_interval,
    majority_interval,
    unanswerable_interval,
)

# in the order of tables
SUITES: dict[str, str] = {
    "math500": "MATH-500",
    "math_test": "MATH test",
    "gsm8k": "GSM8K",
    "selfaware": "SelfAware",
    "truthfulqa": "TruthfulQA",
    "commonsenseqa": "CommonsenseQA",
    "openbookqa": "OpenBookQA",
    "aime24": "AIME 2024",
    "aime25": "AIME 2025",
    "amc23": "AMC 2023",
    "countdown": "Countdown",
}
# shown of the estimators of confidence beside the majority's, which are over samples
PER_SAMPLE = ("accuracy", "ece", "ece_debiased", "ece_count", "brier", "nll", "auroc", "aurc")
_ESTIMATORS = {  # what confidence is, and the ECE's row in an evaluation's table
    "mean": ("each sample's own answer frequency", "ECE of own votes"),
    "answer_prob": ("the probability of the option that it names", "ECE of option probability"),
    "argmax": ("that of the likeliest option, taken as the answer", "ECE of the likeliest option"),
    "sequence": ("the response's likelihood", "ECE of likelihood"),
    "verbalized": ("what it states", "ECE of stated confidence"),
}
_ROWS = {  # of the outcomes, in an evaluation's table
    Outcome.WRONG: "wrong",
    Outcome.ABSTAINED: "abstained",
    Outcome.UNPARSED: "no answer found",
    Outcome.TRUNCATED: "cut off before one",
    Outcome.INVALID: "could not be graded",
}

_EVALUATION = (
    Metric(
        "eval/{suite}/accuracy",
        "share",
        "right samples",
        label="{suite}",
        better=+1,
        estimate=accuracy_interval,
        shown={
            "accuracy": At(1),
            "suites": At(1),
            "evaluation": At(0, "accuracy"),
            "column": At(0, "accuracy"),
            "decisions": At(1, "accuracy"),
            "choose": At(1),
            "workspace/evaluations": At(),
        },
    ),
    Metric(
        "eval/{suite}/too_long",
        "questions",
        "questions not asked: no room for an answer",
        label="{suite} questions not asked: too long",
        short="{suite} too long",
        digits=0,
        shown={"suites": At(7), "evaluation": At(0, "not asked: too long")},
    ),
    Metric(
        "eval/{suite}/maj",
        "share",
        "questions whose majority answer is right",
        label="{suite} maj@N",
        short="{suite} maj",
        better=+1,
        estimate=majority_interval,
        shown={
            "suites": At(2),
            "evaluation": At(0, "majority right"),
            "column": At(0, "majority right"),
            "choose": At(2),
        },
    ),
    Metric(
        "eval/{suite}/argmax_accuracy",
        "share",
        "samples that are right if the likeliest option is their decision",
        label="{suite} arg-max",
        better=+1,
        shown={
            "suites": At(1),
            "evaluation": At(0, "accuracy of the likeliest option"),
            "decisions": At(2, "arg-max accuracy"),
            "choose": At(13),
            "workspace/decisions": At(1),
        },
    ),
    Metric("eval/{suite}/pass@{n}", "share", "questions with a right sample"),
    Metric(
        "eval/{suite}/f1",
        "share",
        "of calling a question unanswerable",
        label="{suite} F1",
        better=+1,
        estimate=unanswerable_interval,
        shown={"suites": At(3), "evaluation": At(0, "F1 of the unanswerable"), "workspace/evaluations": At()},
    ),
    Metric(
        "eval/{suite}/precision",
        "share",
        "of calling a question unanswerable",
        shown={"evaluation": At(0, "precision")},
    ),
    Metric("eval/{suite}/recall", "share", "of calling a question unanswerable", shown={"evaluation": At(0, "recall")}),
    Metric(
        "eval/{suite}/hallucination",
        "share",
        "samples that assert something false",
        label="{suite} hallucination",
        short="{suite} halluc.",
        better=-1,
        estimate=hallucination_interval,
        shown={"suites": At(4), "evaluation": At(0, "hallucination"), "workspace/evaluations": At()},
    ),
    Metric(
        "eval/{suite}/answered",
        "share",
        "samples that have an answer, an abstention included",
        better=+1,
        shown={"evaluation": At(0, "answered"), "column": At(0, "answered"), "choose": At(3)},
    ),
    *(
        Metric(
            f"eval/{{suite}}/{outcome}",
            "share",
            f"samples whose outcome is {outcome}",
            better=-1 if outcome is Outcome.TRUNCATED else 0,
            shown={"evaluation": At(0, row)} | ({"choose": At(4)} if outcome is Outcome.TRUNCATED else {}),
        )
        for outcome, row in _ROWS.items()
    ),
    Metric(
        "eval/{suite}/undecided",
        "share",
        "answers whose option has no probability of its own",
        shown={"evaluation": At(0, "no token for an option")},
    ),
    Metric(
        "eval/{suite}/unstated",
        "share",
        "answers without a stated confidence that was asked for",
        shown={"evaluation": At(0, "no confidence stated")},
    ),
    Metric("eval/{suite}/uncompared", "share", "samples whose answer could not be compared with others"),
    Metric(
        "eval/{suite}/sampled_entropy",
        "nats/token",
        "mean -log p of what was sampled",
        label="{suite} -log p (nats/token)",
        short="{suite} -log p",
        shown={"suites": At(6), "evaluation": At(0, "-log p (nats/token)")},
    ),
)

# of carerl.calibration.measure, whose ``accuracy`` is eval/{suite}/maj
_CALIBRATION = (
    Metric("calibration/{suite}/confidence", "share", "mean confidence"),
    Metric("calibration/{suite}/overconfidence", "share", "mean confidence less accuracy"),
    Metric(
        "calibration/{suite}/ece",
        "share",
        "ECE, bins of equal width",
        label="ECE {suite}",
        better=-1,
        biased=True,
        estimate=ece_interval,
        shown={
            "ece": At(1),
            "gap": At(),
            "suites": At(5),
            "evaluation": At(0, "ECE of votes"),
            "column": At(0, "ECE"),
            "choose": At(5),
            "workspace/calibration": At(),
        },
    ),
    Metric(
        "calibration/{suite}/ece_floor_votes",
        "share",
        "ECE of a perfect model with as many votes",
        shown={"evaluation": At(0, "  of a perfect model"), "workspace/calibration": At()},
    ),
    Metric(
        "calibration/{suite}/ece_debiased",
        "share",
        "ECE without most of its bias",
        better=-1,
        shown={"evaluation": At(0, "  debiased"), "column": At(0, "ECE, debiased"), "choose": At(6)},
    ),
    Metric(
        "calibration/{suite}/ece_count",
        "share",
        "ECE, bins of equal count",
        better=-1,
        shown={"column": At(0, "ECE, equal counts"), "choose": At(7)},
    ),
    Metric("calibration/{suite}/ece_count_debiased", "share", "ECE, bins of equal count, without most of its bias"),
    Metric("calibration/{suite}/ece_unique", "share", "ECE, a bin for each vote share"),
    Metric(
        "calibration/{suite}/ece_floor_labels", "share", "ECE if each confidence were the probability of being right"
    ),
    Metric("calibration/{suite}/mce", "share", "largest gap of a bin", better=-1, shown={"choose": At(8)}),
    Metric(
        "calibration/{suite}/brier",
        "1",
        "Brier score",
        better=-1,
        shown={
            "evaluation": At(0, "Brier"),
            "column": At(0, "Brier"),
            "choose": At(9),
            "workspace/calibration": At(),
        },
    ),
    Metric("calibration/{suite}/brier_reliability", "1", "the Brier score's reliability"),
    Metric("calibration/{suite}/brier_resolution", "1", "the Brier score's resolution"),
    Metric("calibration/{suite}/brier_uncertainty", "1", "the Brier score's uncertainty"),
    Metric(
        "calibration/{suite}/nll",
        "nats",
        "negative log-likelihood of being right",
        better=-1,
        shown={"evaluation": At(0, "NLL (nats)"), "column": At(0, "NLL (nats)"), "choose": At(10)},
    ),
    Metric(
        "calibration/{suite}/auroc",
        "share",
        "AUROC of confidence for being right",
        better=+1,
        shown={
            "evaluation": At(0, "AUROC"),
            "column": At(0, "AUROC"),
            "choose": At(11),
            "workspace/calibration": At(),
        },
    ),
    Metric(
        "calibration/{suite}/aurc",
        "share",
        "area under the risk-coverage curve",
        better=-1,
        shown={"column": At(0, "AURC"), "choose": At(12)},
    ),
    Metric(
        "calibration/{suite}/accuracy_at_80",
        "share",
        "accuracy on the most confident 80 %",
        shown={"evaluation": At(0, "accuracy on the surest 80 %")},
    ),
)

# of the estimators' metrics: how it is shown, where that is not by its estimator's row alone
_SHOWN: dict[str, dict[str, Any]] = {
    "calibration/{suite}/answer_prob_ece_count": {
        "label": "{suite} ECE of p(decision)",
        "short": "{suite} p ECE",
        "better": -1,
        "biased": True,
        "shown": {
            "suites": At(5),
            "evaluation": At(0, "  equal counts"),
            "decisions": At(3, "ECE of p(decision)"),
            "choose": At(14),
            "workspace/decisions": At(2),
        },
    },
    "calibration/{suite}/answer_prob_brier": {"shown": {"evaluation": At(0, "Brier of option probability")}},
}
_HISTOGRAM = Metric(
    "calibration/{suite}/decision_bin_{n}",
    "share",
    "decisions whose probability is in bin n of [0, .1), [.1, .2) … [.9, .99), [.99, 1]",
    label="{suite}, bin {n} of p(decision)",
    short="p bin {n}",
    shown={"parts/decision_bins": At()},
)


def per_sample(estimator: str) -> tuple[str, ...]:
    """Returns what is measured of an estimator over samples. The accuracy of ``argmax``, the only one whose answers are
    not the samples' own, is ``eval/{suite}/argmax_accuracy``."""
    return tuple(kind for kind in PER_SAMPLE if (estimator, kind) != ("argmax", "accuracy"))


def _over_samples(estimator: str, confidence: str, row: str) -> list[Metric]:
    """Returns the lines of an estimator's metrics: the names of :func:`per_sample` with the estimator's in front."""
    measured = {metric.kind: metric for metric in _CALIBRATION}
    made = []
    for kind in per_sample(estimator):
        unit, meaning = (measured[kind].unit, measured[kind].meaning) if kind in measured else ("share", "accuracy")
        name, shown = f"calibration/{{suite}}/{estimator}_{kind}", {"evaluation": At(0, row)} if kind == "ece" else {}
        fields: dict[str, Any] = {"shown": shown} | _SHOWN.get(name, {})
        made.append(Metric(name, unit, f"{meaning}, over samples; confidence is {confidence}", **fields))
    return made


METRICS = (
    *_EVALUATION,
    *_CALIBRATION,
    *(metric for name, words in _ESTIMATORS.items() for metric in _over_samples(name, *words)),
    _HISTOGRAM,
)
