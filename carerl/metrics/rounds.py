"""The metrics of a round of preferences: what was sampled and judged for it, and what its optimizer steps did.

Of the metrics of an optimizer step (:mod:`.preferences`) a round logs the mean over its steps.
"""

from __future__ import annotations

from .table import At, Metric, declare

ROUND = (
    Metric(
        "round/pairs",
        "pairs",
        "pairs that a round trains on",
        label="pairs",
        digits=0,
        shown={"step": At(20), "curves/round_pairs": At(0, "all"), "workspace/preferences": At()},
    ),
    Metric(
        "round/second_pairs",
        "pairs",
        "those whose rejected step was asked for, from the second most probable token",
        digits=0,
        shown={"curves/round_pairs": At(1, "against the second most probable token")},
    ),
    Metric("round/paired_questions", "share", "questions of a round with a pair", digits=3),
    Metric("round/updates", "steps", "optimizer steps of a round", digits=0),
    Metric("round/responses", "responses", "responses of a round, continuations included", digits=0),
    Metric("round/steps", "steps", "steps of these responses, each continuation's own only", digits=0),
    Metric("round/judged", "share", "steps with a verdict", shown={"workspace/preferences": At()}),
    Metric(
        "round/right",
        "share",
        "judged steps that are right, shares of right completions as they are",
        label="right steps",
        short="right",
        better=+1,
        shown={"step": At(21), "curves/round_right": At(), "workspace/preferences": At()},
    ),
    Metric("round/confidence", "1", "mean confidence of the steps, 1 minus entropy over log V"),
    Metric("round/tokens", "tokens", "tokens of responses and continuations, without completions that judge", digits=0),
    Metric(
        "round/unjudged", "share", "responses of which no step has a verdict, such as an unreadable review's", better=-1
    ),
    Metric("round/judge_tokens", "tokens", "tokens of completions or reviews that judge", digits=0),
    Metric(
        "round/judge_agreement",
        "share",
        "responses of which the second model's review and the grader say the same: all right, or not",
        better=+1,
    ),
    Metric(
        "round/step_auroc_entropy", "share", "AUROC of the confidence of drawn steps, 1 - entropy / log V", better=+1
    ),
    Metric("round/step_auroc_peak", "share", "AUROC of the mean probability of their likeliest tokens", better=+1),
    Metric("round/step_auroc_perplexity", "share", "AUROC of their log-prob a token", better=+1),
    Metric(
        "round/step_entropy_gap", "nats/token", "mean entropy of wrong drawn steps minus that of right ones", better=+1
    ),
    Metric("round/step_brier", "share", "Brier score of the confidence of drawn steps", better=-1),
    Metric("round/step_ece", "share", "ECE of the confidence of drawn steps", better=-1),
    Metric(
        "round/chosen_logprob_start",
        "nats/step",
        "log-prob of the chosen steps of a round's pairs before its first optimizer step",
        shown={"curves/chosen_logprob": At(0, "before the round")},
    ),
    Metric(
        "round/chosen_logprob_end",
        "nats/step",
        "the same after its last one",
        better=+1,
        shown={"curves/chosen_logprob": At(1, "after the round"), "workspace/preferences": At()},
    ),
    Metric("round/rejected_logprob_start", "nats/step", "log-prob of the rejected steps before the first one"),
    Metric("round/rejected_logprob_end", "nats/step", "the same after the last one"),
    Metric(
        "round/accuracy_end",
        "share",
        "pairs of a round whose h is above 0 after its last optimizer step",
        label="pairs in order",
        short="in order",
        better=+1,
        shown={"step": At(22), "workspace/preferences": At()},
    ),
    Metric("time/score", "s", "the learner's forward pass over responses and pairs", shown={"time": At()}),
    Metric("time/judge", "s", "judging steps: completions, reviews, or the task's own labels", shown={"time": At()}),
    Metric("time/second", "s", "continuations from the second most probable token", shown={"time": At()}),
)

declare(*ROUND)
