"""Lists the learners under the names that ``learner.backend`` takes. A new one is a file here, a line in the table, and
its name in ``carerl.config.schema.LearnerConfig``, which may not import this room."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from carerl.config.schema import LearnerConfig
from carerl.loss.objective import Objective

from .base import Learner

__all__ = ["LEARNERS", "Learner"]


def _fsdp2(model: Any, config: LearnerConfig, objective: Objective, device: torch.device) -> Learner:
    from carerl.backends.learners.fsdp2 import FSDP2Learner

    return FSDP2Learner(model, config, objective, device)


LEARNERS: dict[str, Callable[[Any, LearnerConfig, Objective, torch.device], Learner]] = {"fsdp2": _fsdp2}
