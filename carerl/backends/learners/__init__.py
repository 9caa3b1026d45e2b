"""Lists the learners under the names that ``learner.backend`` takes. A new one is a file here, a line in the table, and
its name in ``carerl.config.schema.LearnerConfig``, which may not import this room."""

from __future__ import annotations

from collections.abc import Callable

import torch

from carerl.config.schema import LearnerConfig
from carerl.loss.objective import Objective

from .base import Learner
from .loop import LearnerLoop
from .starting import StartingModel

__all__ = ["LEARNERS", "Learner"]


Made = Callable[[StartingModel, LearnerConfig, Objective, torch.device], Learner]


def _fsdp2(start: StartingModel, config: LearnerConfig, objective: Objective, device: torch.device) -> Learner:
    from carerl.backends.learners.fsdp2 import FSDP2Shards

    return LearnerLoop(FSDP2Shards(start, config, device), config, objective)


def _deepspeed(start: StartingModel, config: LearnerConfig, objective: Objective, device: torch.device) -> Learner:
    from carerl.backends.learners.deepspeed import DeepSpeedShards

    return LearnerLoop(DeepSpeedShards(start, config, device), config, objective)


LEARNERS: dict[str, Made] = {"fsdp2": _fsdp2, "deepspeed": _deepspeed}
