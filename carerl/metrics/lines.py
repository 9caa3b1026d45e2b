"""The metrics that every task and method shares: what the loop, the learner and the engines log.

Each name is written here and where it is logged. The order is that of tables and pictures where ranks are equal.
"""

from __future__ import annotations

from .table import At, Metric, declare

TRAIN = (
    Metric(
        "train/loss",
        "1",
        "the loss: policy term, penalty, entropy bonus and cross-entropy, as far as they are on",
        label="loss",
        better=-1,
        shown={"workspace/training": At(3)},
    ),
    Metric("train/policy_loss", "1", "the algorithm's policy term"),
    Metric(
        "train/ce_loss",
        "nats",
        "the loss's cross-entropy, over tokens of a corpus or taught responses; in RL of decisions or traces, weighted",
        label="cross-entropy",
        short="cross-ent.",
        better=-1,
        shown={"step": At(7), "curves/loss": At()},
    ),
    Metric("train/entropy_loss", "1", "minus the entropy bonus times the mean entropy"),
    Metric(
        "train/entropy_bonus",
        "1",
        "what multiplies the mean entropy",
        shown={"curves/strengths": At(2, "entropy bonus")},
    ),
    Metric(
        "train/entropy",
        "nats/token",
        "entropy of the policy at the prefixes of the rollouts",
        label="entropy",
        shown={
            "step": At(4),
            "curves/entropy": At(1, "training rollouts"),
            "workspace/entropy": At(1),
            "strata": At(),
        },
    ),
    Metric(
        "train/certainty",
        "nats/token",
        "self-certainty at the prefixes of the rollouts: KL from the uniform distribution to the policy",
        label="certainty",
        shown={"curves/certainty": At(0, "training rollouts"), "workspace/entropy": At(4)},
    ),
    Metric("train/clip_fraction", "share", "tokens whose ratio was clipped"),
    Metric("train/ratio", "1", "mean ratio of the policy to the one at the step's start"),
    Metric("train/mismatch_masked", "share", "tokens left out because engine and learner disagree on them"),
    Metric(
        "train/grad_norm",
        "1",
        "gradient norm before clipping",
        label="gradient norm",
        short="grad norm",
        shown={"step": At(8), "curves/gradient": At(0, "before clipping"), "workspace/training": At(4)},
    ),
    Metric(
        "train/grad_norm_policy",
        "1",
        "gradient norm of the policy term alone, in the first minibatch",
        shown={"curves/gradient": At(1, "policy term"), "workspace/gradients": At()},
    ),
    Metric(
        "train/grad_norm_regularizer",
        "1",
        "gradient norm of the penalty alone, in the first minibatch",
        shown={"curves/gradient": At(1, "penalty"), "workspace/gradients": At()},
    ),
    Metric(
        "train/grad_norm_entropy",
        "1",
        "gradient norm of the entropy bonus alone, in the first minibatch",
        shown={"curves/gradient": At(1, "entropy bonus"), "workspace/gradients": At()},
    ),
    Metric(
        "train/grad_norm_ce",
        "1",
        "gradient norm of the cross-entropy alone, in the first minibatch",
        shown={"curves/gradient": At(1, "cross-entropy"), "workspace/gradients": At()},
    ),
    Metric("train/lr", "1", "learning rate", label="learning rate", short="lr", digits=6, shown={"step": At(9)}),
    Metric(
        "train/skipped_updates",
        "updates",
        "updates skipped because the gradient was not finite",
        shown={"workspace/training": At(5)},
    ),
    Metric("train/empty_minibatches", "minibatches", "minibatches in which every row was dropped"),
)

ROLLOUT = (
    Metric(
        "rollout/reward",
        "1",
        "mean reward of what was sampled",
        label="reward",
        better=+1,
        shown={"step": At(1), "curves/reward": At(), "workspace/training": At(1)},
    ),
    Metric(
        "rollout/accuracy",
        "share",
        "right responses of what was sampled",
        label="rollout accuracy",
        short="accuracy",
        better=+1,
        shown={"step": At(2), "curves/reward": At(0, "accuracy")},
    ),
    Metric(
        "rollout/rewarded",
        "share",
        "responses that are right with their likeliest option as the decision, which is what the reward is for",
        label="rewarded",
        better=+1,
        shown={"curves/reward": At(0, "right with the likeliest option"), "workspace/training": At(1)},
    ),
    Metric(
        "rollout/response_length",
        "tokens",
        "mean length of a response",
        shown={"workspace/training": At(2)},
    ),
    Metric(
        "rollout/truncated_fraction",
        "share",
        "responses cut off at the longest length",
        shown={"curves/health": At(0, "truncated")},
    ),
    Metric(
        "rollout/unparsed_fraction",
        "share",
        "responses without an answer",
        shown={"curves/health": At(0, "unparsed")},
    ),
    Metric("rollout/unstated_fraction", "share", "responses that state no confidence, where the prompt asks for one"),
    Metric("rollout/invalid_fraction", "share", "responses that could not be graded"),
    Metric(
        "rollout/zero_variance_fraction",
        "share",
        "groups of one reward",
        shown={"curves/health": At(0, "groups of one reward")},
    ),
    Metric(
        "rollout/informative_fraction",
        "share",
        "groups with right and wrong responses",
        shown={"curves/health": At(0, "groups with right and wrong")},
    ),
    Metric("rollout/groups", "groups", "groups sampled"),
    Metric("rollout/missing_groups", "groups", "groups that dynamic sampling did not find"),
    Metric("rollout/tokens", "tokens", "response tokens that take part in the loss"),
    Metric("rollout/generated_tokens", "tokens", "response tokens sampled, thrown away or not"),
    Metric(
        "rollout/mismatch_mean",
        "nats",
        "mean difference of log-probs, engine against learner",
        label="mismatch",
        digits=6,
        shown={"step": At(5), "curves/mismatch": At(0, "rollouts, mean"), "workspace/training": At(6)},
    ),
    Metric(
        "rollout/mismatch_q999",
        "nats",
        "what 99.9 % of the differences of log-probs do not exceed",
        shown={"curves/mismatch": At(0, "rollouts, 99.9 %")},
    ),
    Metric(
        "rollout/mismatch_max",
        "nats",
        "largest difference of log-probs, engine against learner",
        shown={"curves/mismatch": At(0, "rollouts, max")},
    ),
    Metric("rollout/effective_sample_size", "share", "effective share of the samples after the mismatch weights"),
)

REGULARIZER = (
    Metric(
        "regularizer/reverse_kl",
        "nats/token",
        "reverse KL to the reference at the prefixes of the rollouts",
        label="divergence",
        shown={
            "step": At(3),
            "curves/divergence": At(0, "reverse KL"),
            "workspace/divergence": At(1),
            "strata": At(),
        },
    ),
    Metric("regularizer/log_ratio", "nats/token", "mean log-ratio of policy to reference at the sampled tokens"),
    Metric(
        "regularizer/value",
        "nats/token",
        "the regularizer's own divergence",
        shown={"curves/divergence": At(0, "the regularizer's own"), "workspace/divergence": At(2), "strata": At()},
    ),
    Metric(
        "regularizer/coefficient",
        "1",
        "mean size of the penalty's coefficient of a sampled token",
        shown={"workspace/coefficient": At(), "strata": At()},
    ),
    Metric("regularizer/loss", "1", "the penalty: beta times the divergence"),
    Metric(
        "regularizer/beta",
        "1",
        "what multiplies the divergence",
        label="beta",
        shown={"curves/strengths": At(1), "workspace/strengths": At()},
    ),
)

# Those of the primary suite, under names of their own. Tasks add what is theirs: of a suite, of a world.
EVALUATION = (
    Metric(
        "eval/accuracy",
        "share",
        "right samples, of the primary suite",
        label="accuracy",
        better=+1,
        shown={
            "headline": At(1),
            "summary": At(1),
            "accuracy": At(1),
            "verdict": At(1, "Accuracy"),
            "sweep": At(1, "accuracy"),
            "curves/evaluation": At(),
            "workspace/evaluations": At(),
        },
    ),
    Metric(
        "eval/maj",
        "share",
        "questions whose majority answer is right, of the primary suite",
        label="maj@N",
        better=+1,
        shown={"headline": At(1), "summary": At(1), "curves/evaluation": At(), "workspace/evaluations": At()},
    ),
    Metric(
        "calibration/question_ece",
        "share",
        "ECE of the votes on the task's own questions",
        label="question ECE",
        short="quest. ECE",
        better=-1,
        biased=True,
        note="Question ECE: the task's own questions, the votes against right or wrong.",
        shown={
            "headline": At(3),
            "summary": At(3),
            "ece": At(3),
            "frontier": At(4),
            "curves/ece": At(3, "questions"),
            "workspace/calibration": At(3),
        },
    ),
    Metric(
        "eval/entropy",
        "nats/token",
        "entropy of the policy on the primary suite's responses",
        label="entropy (nats/token)",
        short="entropy",
        shown={
            "headline": At(5, "entropy"),
            "overall": At(),
            "summary": At(5),
            "curves/entropy": At(2, "evaluation"),
            "workspace/entropy": At(2),
        },
    ),
    Metric(
        "eval/sampled_entropy",
        "nats/token",
        "mean -log p of what was sampled, of the primary suite",
        label="-log p of what was sampled (nats/token)",
        short="-log p",
        shown={"summary": At(5)},
    ),
    Metric(
        "eval/kl_per_sequence",
        "nats/sequence",
        "reverse KL to the reference on the primary suite's responses",
        label="KL to base (nats/sequence)",
        short="KL/seq",
        digits=2,
        shown={"headline": At(5, "KL/seq"), "overall": At(), "summary": At(5), "workspace/divergence": At(3)},
    ),
)

SYSTEM = (
    Metric("sync/version", "1", "version of the weights that engines have"),
    Metric("sync/gib", "GiB", "weights that a sync sent, counted once however many engines took them"),
    Metric(
        "sync/probe_mean",
        "nats",
        "mean difference of log-probs right after a sync, engine against learner",
        shown={"curves/mismatch": At(1, "probe after sync, mean")},
    ),
    Metric(
        "sync/probe_q999",
        "nats",
        "what 99.9 % of the differences right after a sync do not exceed",
        shown={"curves/mismatch": At(1, "probe after sync, 99.9 %")},
    ),
    Metric(
        "sync/probe_max",
        "nats",
        "largest difference of log-probs right after a sync, engine against learner",
        shown={"curves/mismatch": At(1, "probe after sync, max")},
    ),
    Metric("system/rss_gib", "GiB", "peak resident memory of the learner's ranks together"),
    *(
        Metric(f"system/resident_{role}_gib", "GiB", f"main memory of the largest {role} actor, at its peak so far")
        for role in ("learner", "rollout", "reference", "grading", "judge")
    ),
    *(
        Metric(f"system/{name}_{role}_gib", "GiB", f"GPU memory {words} of a {role} actor, at its peak so far")
        for role in ("learner", "rollout", "reference", "judge")
        for name, words in (("allocated", "in tensors"), ("fragmentation", "taken beyond tensors"))
    ),
    Metric("time/generate", "s", "sampling", shown={"time": At()}),
    Metric("time/reward", "s", "grading", shown={"time": At()}),
    Metric("time/reference", "s", "batching, and the reference's forward pass", shown={"time": At()}),
    Metric("time/table", "s", "the learner's forward pass for a rollout table"),
    Metric("time/train", "s", "forward and backward passes and optimizer steps", shown={"time": At()}),
    Metric("time/sync", "s", "sending weights to the engines, and the probe", shown={"time": At()}),
    Metric("time/step", "s", "the whole step", shown={"workspace/training": At(7)}),
    Metric("time/evaluate", "s", "an evaluation"),
    Metric(
        "time/tokens_per_second",
        "tokens/s",
        "response tokens sampled per second of the step",
        label="tokens/s",
        digits=0,
        shown={"step": At(6), "workspace/training": At(8)},
    ),
)

declare(*TRAIN, *ROLLOUT, *REGULARIZER, *EVALUATION, *SYSTEM)
