"""Settings of what is measured, kept and shown while a run goes on: evaluations, checkpoints, tracking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from carerl.config.check.wandb_names import entity_errors, project_errors
from carerl.config.schema.cutoffs import TOP_K, TOP_P
from carerl.errors import ConfigError
from carerl.settings import Errors, Run, Settings, at_least, one_of


@dataclass
class EvaluationConfig(Settings):
    every: Annotated[int, at_least(0)] = 50  # steps; 0: never between start and end
    at_start: bool = True
    at_end: bool = True
    samples: Annotated[int, at_least(1)] = 16  # N per question
    temperature: Annotated[float, at_least(0)] = 1.0
    top_p: Annotated[float, TOP_P] = 1.0
    top_k: Annotated[int, TOP_K] = -1
    seed: Annotated[int, at_least(0)] = 12345  # of its own, so that evaluating more or less often changes no training
    questions: Annotated[int, at_least(0)] = 0  # per suite at start and end; 0: all
    # per suite at the intervals; 0: all. Validation that chooses is always asked whole
    questions_between: Annotated[int, at_least(0)] = 60
    scored_samples: Annotated[int, at_least(1)] = 4  # per question of the primary suite, for entropy and divergence
    keep_samples: bool = True  # in a table beside the evaluation's figures, tokens and text
    trace_swap: bool = False  # ask each decision again after the trace of a question that was decided otherwise

    def check(self, run: Run) -> Errors:
        if self.temperature == 0 and self.samples > 1:
            yield ConfigError(
                "evaluation.samples",
                self.samples,
                "at evaluation.temperature=0 every sample is the same",
                "write evaluation.samples=1, or a temperature above 0",
            )


@dataclass
class CheckpointConfig(Settings):
    every: Annotated[int, at_least(0)] = 50  # steps; 0: only at the end
    keep: Annotated[int, at_least(1)] = 2
    best: str = ""  # of the validation suite: "accuracy subject to ece <= 0.1"; that model is kept too. Empty: none


@dataclass
class TrackingConfig(Settings):
    # off | offline | online: nothing leaves the machine unless asked for
    wandb: Annotated[str, one_of(("off", "offline", "online"))] = "offline"
    wandb_project: str = "carerl"
    wandb_entity: str = ""  # the user or team that it is filed under; empty: the key's own
    # of each rollout table: prompts and responses leave the machine only when asked for
    wandb_rollout_rows: Annotated[int, at_least(0)] = 0
    wandb_checkpoint: bool = False  # the last checkpoint's model goes along as an artifact
    # steps between rollout tables, each a forward pass of the learner more; 0: none
    rollouts_every: Annotated[int, at_least(0)] = 10
    # steps between measurements of the gradient norm of each part of the loss, each part a forward and backward pass
    # over the first minibatch more; 0: none
    part_norms_every: Annotated[int, at_least(0)] = 0
    display: Annotated[str, one_of(("auto", "live", "plain", "quiet"))] = "auto"  # auto | live | plain | quiet

    def check(self, run: Run) -> Errors:
        if self.wandb != "off":
            yield from project_errors("tracking.wandb_project", self.wandb_project)
            yield from entity_errors("tracking.wandb_entity", self.wandb_entity)
