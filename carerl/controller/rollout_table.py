"""Makes the rows of a step's rollout table, with the learner's and the reference's scores of each token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from torch import Tensor

from carerl.actors.crew import TrainingCrew
from carerl.actors.handles.base import HeldBatch
from carerl.controller.sampling import Rollouts
from carerl.loss.batching import StepBatch


def token_scores(crew: TrainingCrew, held: HeldBatch) -> dict[str, Tensor]:
    """Returns (B, T) ``entropy`` and ``rkl``, the exact reverse KL to the reference, nats, under the learner's weights
    as they are. Returns nothing if the reference has not scored the batch.

    This costs a forward pass of the learner, and one of the reference if it gives log-probs alone: a divergence
    estimated from log-probs would shrink with the entropy.
    """
    if not held.asked:
        return {}
    scores = crew.learner.log_probs(held if held.hidden else crew.reference.streams(held, hidden=True))
    return {name: scores[name] for name in ("entropy", "rkl")}


def rollout_rows(
    decode: Callable[[list[int]], str],
    step: int,
    rollouts: Rollouts,
    planned: StepBatch,
    scores: Mapping[str, Tensor] | None = None,
) -> list[dict[str, Any]]:
    """Returns one row for each sample. A sample that takes no part in the loss has no advantage. That of
    any other is of a token that is not its decision, which may have none, if there is one.

    ``scores``: (B, T) streams of the batch's rows, see :func:`token_scores`; a sample that is not in the batch has no
    scores. ``token_logprob`` is the engine's own, at the sampling temperature.
    """
    batch = planned.batch
    assert batch.advantages_BT is not None
    token_text = cache(lambda token: decode([token]))
    first_row = {id(group): k * len(group.samples) for k, group in enumerate(rollouts.groups)}
    takes_part = planned.takes_part_B.tolist()
    rows: list[dict[str, Any]] = []
    for group in rollouts.generated:
        first = first_row.get(id(group))
        for number, sample in enumerate(group.samples):
            trained = first is not None and takes_part[first + number]
            length = len(sample.response_ids)
            position = None if sample.decision is None else sample.decision.position
            told = min(int(position == 0), max(length - 1, 0))
            scored = {
                f"token_{name}": stream_BT[first + number, :length].tolist() if first is not None else None
                for name, stream_BT in (scores or {}).items()
            }
            rows.append(
                {
                    "step": step,
                    "example_id": sample.example_id,
                    "sample": number,
                    "prompt": decode(list(group.example.prompt_ids)),
                    "response": decode(list(sample.response_ids)),
                    "gold": group.example.gold,
                    "answer": sample.answer,
                    "outcome": str(sample.outcome),
                    "correct": sample.correct,
                    "reward": sample.reward,
                    "decision_position": position,
                    "likeliest": sample.likeliest,
                    "argmax_outcome": None if sample.argmax_outcome is None else str(sample.argmax_outcome),
                    "advantage": float(batch.advantages_BT[first + number, told])
                    if trained and first is not None
                    else None,
                    "trained": trained,
                    "confidence": sample.confidence,
                    "certainty": sample.certainty,
                    "entropy": sample.entropy,
                    "gain": sample.gain,
                    "weight": sample.weight,
                    "tokens": length,
                    "mean_logprob": sum(sample.rollout_logprobs) / length if length else None,
                    "weight_version": sample.weight_version,
                    "response_ids": list(sample.response_ids),
                    "token_text": [token_text(token) for token in sample.response_ids],
                    "token_logprob": list(sample.rollout_logprobs),
                    **scored,
                }
            )
    return rows
