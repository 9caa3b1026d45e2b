"""The metrics of preferences: of an optimizer step over pairs, and of the steps of evaluated responses."""

from __future__ import annotations

from .table import At, Metric, declare

# Of one optimizer step, before it (carerl.loss.preferred).
UPDATE = (
    Metric(
        "preference/loss",
        "nats",
        "DPO's loss plus the weighted NLL of the chosen steps",
        label="preference loss",
        short="pref. loss",
        better=-1,
        shown={"step": At(7), "curves/preference_loss": At(0, "with the anchor"), "workspace/preferences": At()},
    ),
    Metric(
        "preference/dpo_loss",
        "nats",
        "mean of -log sigmoid(h) over pairs; log 2 where policy and reference are the same",
        label="DPO loss",
        better=-1,
        shown={"curves/preference_loss": At(1, "DPO"), "workspace/preferences": At()},
    ),
    Metric("preference/nll", "nats/token", "NLL of the chosen steps, without its weight", better=-1),
    Metric(
        "preference/margin",
        "nats",
        "mean of h: beta times the chosen log-ratio minus the rejected one",
        label="margin",
        better=+1,
        shown={"curves/preference_margin": At(), "workspace/preferences": At()},
    ),
    Metric(
        "preference/accuracy",
        "share",
        "pairs whose h is above 0",
        label="pairs in order",
        better=+1,
        shown={"curves/preference_accuracy": At(), "workspace/preferences": At()},
    ),
    Metric("preference/pull", "share", "mean of sigmoid(-h), the force that is left on a pair"),
    Metric(
        "preference/chosen_logprob",
        "nats/step",
        "log-prob of the chosen steps",
        label="chosen log-prob",
        better=+1,
        shown={"curves/preference_logprobs": At(0, "chosen"), "workspace/preferences": At()},
    ),
    Metric(
        "preference/rejected_logprob",
        "nats/step",
        "log-prob of the rejected steps",
        label="rejected log-prob",
        shown={"curves/preference_logprobs": At(1, "rejected"), "workspace/preferences": At()},
    ),
    Metric(
        "preference/chosen_log_ratio",
        "nats/token",
        "log-prob of the chosen steps under the policy minus that under the reference",
        shown={"curves/preference_log_ratios": At(0, "chosen"), "workspace/preferences": At()},
    ),
    Metric(
        "preference/rejected_log_ratio",
        "nats/token",
        "the same of the rejected steps",
        shown={"curves/preference_log_ratios": At(1, "rejected"), "workspace/preferences": At()},
    ),
    Metric("preference/pairs", "pairs", "pairs of an optimizer step", digits=0),
)

# Of the judged steps of evaluated responses (carerl.preferences.measures).
STEPS = (
    Metric(
        "eval/{suite}/step_right",
        "share",
        "judged steps that are right",
        label="{suite}: right steps",
        short="steps",
        better=+1,
        shown={"evaluation": At(2, "right steps"), "workspace/steps": At()},
    ),
    Metric("eval/{suite}/steps", "steps", "judged steps", label="{suite}: judged steps", digits=0),
    Metric(
        "eval/{suite}/step_entropy_gap",
        "nats/token",
        "mean entropy of wrong steps minus that of right ones",
        label="{suite}: entropy, wrong - right steps",
        short="gap",
        better=+1,
        shown={
            "evaluation": At(2, "entropy, wrong - right steps"),
            "curves/step_entropy_gap": At(),
            "workspace/steps": At(),
        },
    ),
    Metric(
        "calibration/{suite}/step_ece",
        "share",
        "ECE of the steps' confidence",
        label="{suite}: ECE of steps",
        short="step ECE",
        better=-1,
        shown={"evaluation": At(2, "ECE of steps"), "curves/step_ece": At(), "workspace/steps": At()},
    ),
    Metric(
        "calibration/{suite}/step_brier",
        "share",
        "Brier score of the steps' confidence",
        label="{suite}: Brier score of steps",
        short="step Brier",
        better=-1,
        shown={"evaluation": At(2, "Brier score of steps")},
    ),
    Metric(
        "calibration/{suite}/step_auroc_entropy",
        "share",
        "AUROC of the steps' confidence, 1 - entropy / log V, for right against wrong",
        label="{suite}: AUROC of steps, entropy",
        short="step AUROC",
        better=+1,
        shown={"evaluation": At(2, "AUROC of steps, entropy"), "curves/step_auroc": At(), "workspace/steps": At()},
    ),
    Metric(
        "calibration/{suite}/step_auroc_peak",
        "share",
        "AUROC of the mean probability of the likeliest token",
        label="{suite}: AUROC of steps, likeliest token",
        short="AUROC peak",
        better=+1,
        shown={"evaluation": At(2, "AUROC of steps, likeliest token")},
    ),
    Metric(
        "calibration/{suite}/step_auroc_perplexity",
        "share",
        "AUROC of the steps' log-prob a token: low perplexity is confident",
        label="{suite}: AUROC of steps, perplexity",
        short="AUROC perp.",
        better=+1,
        shown={"evaluation": At(2, "AUROC of steps, perplexity")},
    ),
)

declare(*UPDATE, *STEPS)
