"""Weight sync from learner to engines, and the parity probe that proves it.

The version of the weights is the number of loop steps that they have been through. The probe samples a
few responses right after a sync and compares the engine's log-probs with the learner's: it notices a
layer that was left out, a tied head, or cached prefixes of older weights.
"""

from __future__ import annotations

import torch

from carerl.actors.crew import Crew
from carerl.algorithms.batching import pack_rows
from carerl.config.schema import RunConfig
from carerl.controller.preparation import stop_ids
from carerl.tasks import Task
from carerl.types import RunError, Sampling


class ParityError(RunError):
    """Engine and learner disagree about the same weights."""


def synchronise(crew: Crew, version: int) -> None:
    """All engines hold the learner's weights as ``version``, or this raises."""
    assert crew.rollout is not None
    bucket_refs, checksum = crew.learner.publish()
    crew.rollout.sync(bucket_refs, version, checksum)


def probe_due(version: int, config: RunConfig) -> bool:
    """Every ``sync.probe_every`` versions; a run that is gone on with probes at the same ones."""
    every = config.sync.probe_every
    return every > 0 and version % every == 0


def probe(crew: Crew, task: Task, config: RunConfig) -> dict[str, float]:
    """``sync/probe_max``: the largest difference of log-probs, in nats.

    Always the same prompts: an engine that kept cached prefixes of older weights would show it here.
    Raises ParityError above ``sync.probe_abort``.
    """
    assert crew.rollout is not None
    sampling = Sampling(
        n=1,
        temperature=config.rollout.temperature,
        max_new_tokens=config.rollout.max_new_tokens,
        seed=config.seed,
        stop_ids=stop_ids(config, task),
    )
    groups = crew.rollout.generate(task.train_examples(0, config.sync.probe_prompts), sampling)
    samples = [sample for group in groups for sample in group.samples]
    batch = pack_rows(
        [group.example.prompt_ids for group in groups],
        [sample.response_ids for sample in samples],
        temperature=config.rollout.temperature,
    )
    logprobs_BT = crew.learner.score(batch)["logprobs"]
    engine_N = torch.tensor([logprob for sample in samples for logprob in sample.rollout_logprobs])
    worst = float((logprobs_BT[batch.mask_BT] - engine_N).abs().max())  # NaN if any is
    if not worst <= config.sync.probe_abort:
        raise ParityError(
            f"after the sync to version {crew.rollout.version} the engine's log-probs differ from the learner's by "
            f"{worst:.2e} nats (sync.probe_abort={config.sync.probe_abort:g}): the engine does not run the weights "
            "that were sent. In bfloat16 a larger limit can be right; in float32 it is a fault of the sync."
        )
    return {"sync/probe_max": worst}
