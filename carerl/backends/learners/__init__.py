"""The learners, by the name that ``learner.backend`` has. A further one is a file here and a line in the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from carerl.config.schema import LearnerConfig
from carerl.loss.batching import Minibatch
from carerl.loss.objective import Objective

from .base import Learner

__all__ = ["LEARNERS", "Learner", "Minibatch"]


def _fsdp2(model: Any, config: LearnerConfig, objective: Objective, device: torch.device) -> Learner:
    from carerl.backends.learners.fsdp2 import FSDP2Learner

    return FSDP2Learner(model, config, objective, device)


LEARNERS: dict[str, Callable[[Any, LearnerConfig, Objective, torch.device], Learner]] = {"fsdp2": _fsdp2}
