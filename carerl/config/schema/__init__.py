"""Every setting of a run, as plain dataclasses.

``task``, ``algorithm``, ``regularizer`` and ``reward`` are chosen by ``name``; their dataclasses stand
beside the code they configure, and :mod:`carerl.config.load` puts the chosen one in place, so that a key
which the chosen one does not have is refused.

Units: tokens, rows, seconds, MiB or GiB as the field's name says.
"""

from __future__ import annotations

from carerl.config.schema.actors import GradingConfig, ReferenceConfig, RolloutConfig
from carerl.config.schema.cluster import ClusterConfig
from carerl.config.schema.judge import JudgeConfig
from carerl.config.schema.learner import LearnerConfig, LoraConfig, OptimizerConfig, ScheduleConfig, SyncConfig
from carerl.config.schema.model import ModelConfig, ShapeConfig
from carerl.config.schema.run import RunConfig
from carerl.config.schema.watching import CheckpointConfig, EvaluationConfig, TrackingConfig

__all__ = [
    "CheckpointConfig",
    "ClusterConfig",
    "EvaluationConfig",
    "GradingConfig",
    "JudgeConfig",
    "LearnerConfig",
    "LoraConfig",
    "ModelConfig",
    "OptimizerConfig",
    "ReferenceConfig",
    "RolloutConfig",
    "RunConfig",
    "ScheduleConfig",
    "ShapeConfig",
    "SyncConfig",
    "TrackingConfig",
]
