"""Every metric that a run logs: its name, its unit and what it says. The one place for both.

Names are ``group/metric``; a benchmark's are ``group/suite/metric``. :data:`METRICS` are whole names,
:data:`FAMILIES` are names with a part that varies. Labels and directions of those that tables show stand in
:mod:`carerl.metrics.table`. A test reads the package's source for names that are logged and not listed here, or
listed and logged by nobody; another compares the list with a real run.

:data:`MEDIA` are what trackers of pictures and tables get beside the metrics; they are not in metrics.jsonl.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from carerl.loss.strata import COEFFICIENT_BINS, STRATA
from carerl.tasks.text_evaluation import PER_SAMPLE
from carerl.types import Outcome

GROUPS: dict[str, str] = {
    "train": "the update of the policy",
    "rollout": "what was sampled to train on",
    "regularizer": "divergence to the reference, and the penalty",
    "eval": "evaluations: right or wrong",
    "calibration": "evaluations: whether confidence can be believed",
    "system": "memory",
    "time": "seconds, and rates",
    "sync": "from learner to engines",
}
STEP = "step"  # the axis of every metric: the loop's step, 0 before the first update


@dataclass(frozen=True, slots=True)
class Metric:
    """``unit``: as a reader says it; ``1`` for a pure number, ``share`` for one between 0 and 1."""

    unit: str
    meaning: str


METRICS: dict[str, Metric] = {
    "train/loss": Metric("1", "the loss: policy term, penalty, entropy bonus and cross-entropy, as far as they are on"),
    "train/policy_loss": Metric("1", "the algorithm's policy term"),
    "train/ce_loss": Metric("nats/token", "cross-entropy"),
    "train/entropy_loss": Metric("1", "minus the entropy bonus times the mean entropy"),
    "train/entropy_bonus": Metric("1", "what multiplies the mean entropy"),
    "train/entropy": Metric("nats/token", "entropy of the policy at the prefixes of the rollouts"),
    "train/clip_fraction": Metric("share", "tokens whose ratio was clipped"),
    "train/ratio": Metric("1", "mean ratio of the policy to the one at the step's start"),
    "train/mismatch_masked": Metric("share", "tokens left out because engine and learner disagree on them"),
    "train/grad_norm": Metric("1", "gradient norm before clipping"),
    "train/lr": Metric("1", "learning rate"),
    "train/skipped_updates": Metric("updates", "updates skipped because the gradient was not finite"),
    "train/empty_minibatches": Metric("minibatches", "minibatches in which every row was dropped"),
    "rollout/reward": Metric("1", "mean reward of what was sampled"),
    "rollout/accuracy": Metric("share", "right responses of what was sampled"),
    "rollout/response_length": Metric("tokens", "mean length of a response"),
    "rollout/truncated_fraction": Metric("share", "responses cut off at the longest length"),
    "rollout/unparsed_fraction": Metric("share", "responses without an answer"),
    "rollout/unstated_fraction": Metric("share", "responses that state no confidence, where the prompt asks for one"),
    "rollout/invalid_fraction": Metric("share", "responses that could not be graded"),
    "rollout/zero_variance_fraction": Metric("share", "groups of one reward"),
    "rollout/informative_fraction": Metric("share", "groups with right and wrong responses"),
    "rollout/groups": Metric("groups", "groups sampled"),
    "rollout/missing_groups": Metric("groups", "groups that dynamic sampling did not find"),
    "rollout/tokens": Metric("tokens", "response tokens that take part in the loss"),
    "rollout/generated_tokens": Metric("tokens", "response tokens sampled, thrown away or not"),
    "rollout/mismatch_mean": Metric("nats", "mean difference of log-probs, engine against learner"),
    "rollout/mismatch_q999": Metric("nats", "what 99.9 % of the differences of log-probs do not exceed"),
    "rollout/mismatch_max": Metric("nats", "largest difference of log-probs, engine against learner"),
    "rollout/effective_sample_size": Metric("share", "effective share of the samples after the mismatch weights"),
    "regularizer/reverse_kl": Metric("nats/token", "reverse KL to the reference at the prefixes of the rollouts"),
    "regularizer/log_ratio": Metric("nats/token", "mean log-ratio of policy to reference at the sampled tokens"),
    "regularizer/value": Metric("nats/token", "the regularizer's own divergence"),
    "regularizer/coefficient": Metric("1", "mean size of the penalty's coefficient of a sampled token"),
    "regularizer/loss": Metric("1", "the penalty: beta times the divergence"),
    "regularizer/beta": Metric("1", "what multiplies the divergence"),
    "eval/accuracy": Metric("share", "right samples, of the primary suite"),
    "eval/maj": Metric("share", "questions whose majority answer is right, of the primary suite"),
    "eval/sampled_entropy": Metric("nats/token", "mean -log p of what was sampled, of the primary suite"),
    "eval/entropy": Metric("nats/token", "entropy of the policy on the primary suite's responses"),
    "eval/kl_per_sequence": Metric("nats/sequence", "reverse KL to the reference on the primary suite's responses"),
    "calibration/facts_ece": Metric("share", "ECE of the votes against the facts' true probabilities"),
    "calibration/facts_ece_floor": Metric("share", "facts ECE of a perfect model with as many votes"),
    "calibration/answer_ece": Metric("share", "facts ECE with the answer token's probability as confidence"),
    "calibration/question_ece": Metric("share", "ECE of the votes on the task's own questions"),
    "calibration/unknowable_f1": Metric("share", "F1 of saying that a made-up name is unknown"),
    "sync/version": Metric("1", "version of the weights that engines have"),
    "sync/probe_mean": Metric("nats", "mean difference of log-probs right after a sync, engine against learner"),
    "sync/probe_q999": Metric("nats", "what 99.9 % of the differences right after a sync do not exceed"),
    "sync/probe_max": Metric("nats", "largest difference of log-probs right after a sync, engine against learner"),
    "system/rss_gib": Metric("GiB", "peak resident memory of the learner's ranks together"),
    "time/generate": Metric("s", "sampling"),
    "time/reward": Metric("s", "grading"),
    "time/reference": Metric("s", "batching, and the reference's forward pass"),
    "time/table": Metric("s", "the learner's forward pass for a rollout table"),
    "time/train": Metric("s", "forward and backward passes and optimizer steps"),
    "time/sync": Metric("s", "sending weights to the engines, and the probe"),
    "time/step": Metric("s", "the whole step"),
    "time/evaluate": Metric("s", "an evaluation"),
    "time/tokens_per_second": Metric("tokens/s", "response tokens sampled per second of the step"),
}

_MEASURED: dict[str, Metric] = {  # of carerl.calibration.measure; ``accuracy`` is eval/S/maj there
    "confidence": Metric("share", "mean confidence"),
    "overconfidence": Metric("share", "mean confidence less accuracy"),
    "ece": Metric("share", "ECE, bins of equal width"),
    "ece_debiased": Metric("share", "ECE without most of its bias"),
    "ece_count": Metric("share", "ECE, bins of equal count"),
    "ece_count_debiased": Metric("share", "ECE, bins of equal count, without most of its bias"),
    "ece_unique": Metric("share", "ECE, a bin for each vote share"),
    "ece_floor_labels": Metric("share", "ECE if each confidence were the probability of being right"),
    "ece_floor_votes": Metric("share", "ECE of a perfect model with as many votes"),
    "mce": Metric("share", "largest gap of a bin"),
    "brier": Metric("1", "Brier score"),
    "brier_reliability": Metric("1", "the Brier score's reliability"),
    "brier_resolution": Metric("1", "the Brier score's resolution"),
    "brier_uncertainty": Metric("1", "the Brier score's uncertainty"),
    "nll": Metric("nats", "negative log-likelihood of being right"),
    "auroc": Metric("share", "AUROC of confidence for being right"),
    "aurc": Metric("share", "area under the risk-coverage curve"),
    "accuracy_at_80": Metric("share", "accuracy on the most confident 80 %"),
}
_ESTIMATORS = {
    "mean": "each sample's own answer frequency",
    "answer_prob": "the probability of the option that it names",
    "sequence": "the response's likelihood",
    "verbalized": "what it states",
}

# a name with {part} for what varies -> the pattern of that part, and the metric
FAMILIES: dict[str, tuple[str, Metric]] = {
    **{
        f"{name}_{{stratum}}": ("|".join(STRATA), Metric(METRICS[name].unit, f"{METRICS[name].meaning}, of a stratum"))
        for name in ("train/entropy", "regularizer/reverse_kl", "regularizer/value", "regularizer/coefficient")
    },
    "regularizer/coefficient_bin_{bin}": (
        "|".join(COEFFICIENT_BINS),
        Metric("share", "sampled tokens whose coefficient lies in the bin (m: minus; _ between digits: a point)"),
    ),
    "eval/accuracy_k{steps}": (r"\d+", Metric("share", "right samples, of questions of so many steps")),
    "eval/{suite}/accuracy": (r"\w+", Metric("share", "right samples")),
    "eval/{suite}/maj": (r"\w+", Metric("share", "questions whose majority answer is right")),
    "eval/{suite_and_n}": (r"\w+/pass@\d+", Metric("share", "questions with a right sample")),
    "eval/{suite}/answered": (r"\w+", Metric("share", "samples that have an answer, an abstention included")),
    "eval/{suite}/undecided": (r"\w+", Metric("share", "answers whose option has no probability of its own")),
    "eval/{suite}/unstated": (r"\w+", Metric("share", "answers without a stated confidence that was asked for")),
    "eval/{suite}/uncompared": (r"\w+", Metric("share", "samples whose answer could not be compared with others")),
    "eval/{suite}/too_long": (
        r"\w+",
        Metric("questions", "questions not asked: no room for an answer"),
    ),
    "eval/{suite}/sampled_entropy": (r"\w+", Metric("nats/token", "mean -log p of what was sampled")),
    **{
        f"eval/{{suite}}/{outcome}": (r"\w+", Metric("share", f"samples whose outcome is {outcome}"))
        for outcome in Outcome
        if outcome is not Outcome.CORRECT
    },
    "eval/{suite}/precision": (r"\w+", Metric("share", "of calling a question unanswerable")),
    "eval/{suite}/recall": (r"\w+", Metric("share", "of calling a question unanswerable")),
    "eval/{suite}/f1": (r"\w+", Metric("share", "of calling a question unanswerable")),
    "eval/{suite}/hallucination": (r"\w+", Metric("share", "samples that assert something false")),
    **{f"calibration/{{suite}}/{name}": (r"\w+", metric) for name, metric in _MEASURED.items()},
    **{
        f"calibration/{{suite}}/{estimator}_{name}": (
            r"\w+",
            Metric(metric.unit, f"{metric.meaning}, over samples; confidence is {meaning}"),
        )
        for estimator, meaning in _ESTIMATORS.items()
        for name, metric in ({"accuracy": Metric("share", "accuracy")} | _MEASURED).items()
        if name in PER_SAMPLE
    },
}

MEDIA: dict[str, Metric] = {
    "rollout/table": Metric("table", "some of a step's responses; only where tracking.wandb_rollout_rows asks for it"),
    "calibration/reliability/{suite}": Metric("image", "reliability diagram of an evaluation"),
}


def _pattern(template: str, part: str) -> re.Pattern[str]:
    before, _, after = re.sub(r"\{\w+\}", "{}", template).partition("{}")
    return re.compile(f"{re.escape(before)}(?:{part}){re.escape(after)}")


_PATTERNS = [(_pattern(template, part), metric) for template, (part, metric) in FAMILIES.items()]


def find_metric(name: str) -> Metric | None:
    """The metric of a logged name; None for a name that no run logs.

    >>> find_metric("eval/gsm8k/pass@16").meaning, find_metric("train/entropy_wrong").unit
    ('questions with a right sample', 'nats/token')
    >>> find_metric("train/entropie")
    """
    if name in METRICS:
        return METRICS[name]
    return next((metric for pattern, metric in _PATTERNS if pattern.fullmatch(name)), None)


def undeclared(names: Iterable[str]) -> list[str]:
    """The names that no run logs; ``step``, the axis, is none of them."""
    return sorted(name for name in set(names) if name != STEP and find_metric(name) is None)
