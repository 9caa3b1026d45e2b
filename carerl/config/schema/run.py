"""The settings of a run: its sections, and what is in none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from carerl.algorithms import AlgorithmConfig
from carerl.anchors import AnchorConfig
from carerl.config.kinds import KINDS, Kind
from carerl.config.schema.actors import GradingConfig, ReferenceConfig, RolloutConfig
from carerl.config.schema.cluster import ClusterConfig
from carerl.config.schema.judge import JudgeConfig
from carerl.config.schema.learner import LearnerConfig, SyncConfig
from carerl.config.schema.model import ModelConfig
from carerl.config.schema.watching import CheckpointConfig, EvaluationConfig, TrackingConfig
from carerl.decisions import DecisionConfig
from carerl.distillation import DistillationConfig
from carerl.inference.config import DecodeConfig
from carerl.preferences.config import PreferenceConfig
from carerl.regularizers import RegularizerConfig
from carerl.rewards import RewardConfig
from carerl.settings import Settings, at_least, one_of
from carerl.tasks import TaskConfig


@dataclass
class RunConfig(Settings):
    recipe: str = ""  # set by the loader
    scale: str = (
        ""  # a file of recipes/scale in place of the recipe's own: GPUs, and the steps, lengths and rate for them
    )
    description: str = ""
    kind: Annotated[str, one_of(KINDS)] = "rl"  # see carerl/config/kinds.py
    seed: Annotated[int, at_least(0)] = 100
    steps: Annotated[int, at_least(1)] = 200
    prompts_per_step: Annotated[int, at_least(1)] = 32
    # chosen by name; None where the run's kind has no such section
    task: TaskConfig = None  # type: ignore[assignment]
    algorithm: AlgorithmConfig = None  # type: ignore[assignment]
    regularizer: RegularizerConfig = None  # type: ignore[assignment]
    reward: RewardConfig = None  # type: ignore[assignment]
    decision: DecisionConfig = field(default_factory=DecisionConfig)
    anchor: AnchorConfig = field(default_factory=AnchorConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    preference: PreferenceConfig = field(default_factory=PreferenceConfig)  # of kind caspo
    model: ModelConfig = field(default_factory=ModelConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    grading: GradingConfig = field(default_factory=GradingConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)  # of kind caspo with preference.label=judge
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    sync: SyncConfig = field(default_factory=SyncConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    plugins: list[str] = field(default_factory=list)
    runs_dir: str = "runs"
    run_dir: str = ""  # empty: a fresh one under runs_dir
    resume: str = ""  # a run directory to resume; auto: the one in run_dir, or a new run there
    dry_run: bool = False
    profile: bool = False  # writes where the time of a few steps went: profile.txt, profile.json
    rehearse: bool = False  # all of it on this machine's CPU: a small model of drawn weights, outcomes by coin flips

    @property
    def does(self) -> Kind:
        """What a run of this kind starts, needs and does."""
        return KINDS[self.kind]

    @property
    def starts_engines(self) -> bool:
        """True if engines generate responses."""
        return self.does.starts_engines

    @property
    def trains_on_questions(self) -> bool:
        """True if the model is trained on the task's training questions, and engines run what it has become."""
        return self.does.trains_on_questions

    @property
    def taught(self) -> bool:
        """True if the model learns responses that the task has for its training questions."""
        return self.does.taught

    @property
    def prefers(self) -> bool:
        """True if the model learns from pairs of what it has sampled, in rounds."""
        return self.does.prefers

    @property
    def coin_seed(self) -> int | None:
        """The seed of the tosses that stand for outcomes in a rehearsal; None in any other run."""
        return self.seed if self.rehearse else None

    @property
    def evaluates(self) -> bool:
        """True if any evaluation is due: always where nothing is trained, else at the start, in between or at the end
        of training."""
        e = self.evaluation
        due = e.at_start or e.at_end or 0 < e.every < self.steps
        return self.starts_engines and (due or not self.does.trains)
