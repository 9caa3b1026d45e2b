"""Every setting of a run, as plain dataclasses.

``task``, ``algorithm``, ``regularizer`` and ``reward`` are chosen by ``name``; their dataclasses stand
beside the code they configure, and :mod:`carerl.config.load` puts the chosen one in place, so that a key
which the chosen one does not have is refused.

Units: tokens, rows, seconds, MiB or GiB as the field's name says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class ShapeConfig:
    """A decoder's shape, so that a plan needs no weights and a tiny base can be made from nothing."""

    architecture: str = "qwen3"  # qwen2 | qwen3 | llama: the Hugging Face model_type
    vocab_size: int = 64
    hidden_size: int = 64
    intermediate_size: int = 128
    num_layers: int = 3
    num_heads: int = 2
    num_kv_heads: int = 2
    head_dim: int = 32
    attention_bias: bool = False
    tie_embeddings: bool = True
    context_length: int = 64
    rope_theta: float = 10000.0


@dataclass
class ModelConfig:
    path: str = ""  # a Hugging Face directory or hub id; empty when base_recipe makes it
    revision: str = ""  # of a hub's model: a commit, tag or branch; empty: the newest. The run writes the commit down
    base_recipe: str = ""  # the recipe that trains the base model, e.g. base_tiny (built and cached on demand)
    base_overrides: list[str] = field(default_factory=list)  # key=value for the base recipe, e.g. ["steps=20"]
    shape: ShapeConfig = field(default_factory=ShapeConfig)
    dtype: str = "float32"  # of the stored weights and of the engine: float32 | bfloat16
    trust_remote_code: bool = False


@dataclass
class RolloutConfig:
    engine: str = "vllm"  # vllm | hf
    actors: int = 1
    tensor_parallel: int = 1  # GPUs per actor
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    max_new_tokens: int = 8
    max_model_len: int = 64  # prompt + response, tokens
    max_batch_rows: int = 256  # sequences that the engine decodes at once
    kv_cache_gib: float = 0.25  # on CPU
    gpu_memory_utilization: float = 0.5
    enforce_eager: bool = True
    threads: int = 0  # torch threads per actor; 0: its whole CPUs of Ray's, at least 1; on a GPU the engine's own
    cpus_per_actor: float = 0.2
    gpus_per_actor: float = 0.0
    end_ids: list[int] = field(default_factory=list)  # tokens that end a response: found and written down by the run


@dataclass
class ReferenceConfig:
    actors: int = 1
    report_every: int = 10  # steps between reports of the reverse KL where no penalty needs it; 0: evaluations only
    micro_batch_rows: int = 256
    compute_dtype: str = "float32"
    threads: int = 0  # per actor; 0: its whole CPUs of Ray's that its cgroup leaves it, at least 1
    cpus_per_actor: float = 0.2
    gpus_per_actor: float = 0.0


@dataclass
class GradingConfig:
    """The actors that grade responses and turn outcomes into rewards. Text is graded in child processes of theirs,
    which are ended when an answer takes too long or too much: its outcome is then ``invalid``."""

    actors: int = 1
    processes: int = 1  # per actor
    seconds: float = 5.0  # of processor time, for one answer or for comparing two
    memory_mib: int = 1024  # for one answer, above what the process has
    max_invalid: float = 0.2  # share of a step's or a suite's responses that may fail to be graded; above it a run ends
    cpus_per_actor: float = 0.1


@dataclass
class OptimizerConfig:
    lr: float = 1e-3
    betas: list[float] = field(default_factory=lambda: [0.9, 0.99])
    eps: float = 1e-8
    weight_decay: float = 0.0
    grad_clip: float = 1.0  # global norm; 0: off


@dataclass
class ScheduleConfig:
    name: str = "linear"  # constant | linear | cosine
    warmup_steps: int = 10  # counted in steps of the loop
    final_fraction: float = 0.05  # of lr, at the last step


@dataclass
class LearnerConfig:
    backend: str = "fsdp2"
    ranks: int = 1
    micro_batch_rows: int = 128
    head_chunk_tokens: int = 4096  # tokens whose logits exist at one time
    compute_dtype: str = "float32"  # of the forward pass; log-probs and regularizers are float32 always
    gradient_checkpointing: bool = False
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    threads: int = 0  # per rank, as the reference's
    cpus_per_rank: float = 0.2
    gpus_per_rank: float = 0.0


@dataclass
class SyncConfig:
    bucket_mib: int = 512
    probe_every: int = 10  # syncs between two parity probes; 0: only at the first
    probe_prompts: int = 16  # one to an engine where there are more engines
    probe_mean_abort: float = 0.0  # nats, mean |engine − learner| of the probe's tokens; 0: what the dtypes allow
    probe_q999_abort: float = 0.0  # nats, what 99.9 % of the probe's tokens do not exceed; 0: what the dtypes allow
    mismatch_mean_abort: float = 0.0  # nats, as probe_mean_abort, of a step's rollouts
    mismatch_q999_abort: float = 0.0  # nats, as probe_q999_abort, of a step's rollouts


@dataclass
class EvaluationConfig:
    every: int = 50  # steps; 0: never between start and end
    at_start: bool = True
    at_end: bool = True
    samples: int = 16  # N per question
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    seed: int = 12345  # of its own, so that evaluating more or less often changes no training
    questions: int = 0  # per suite at start and end; 0: all
    questions_between: int = 60  # per suite at the intervals; 0: all. Validation that chooses is always asked whole
    scored_samples: int = 4  # per question of the primary suite, for entropy and divergence
    keep_samples: bool = True  # in a table beside the evaluation's figures, tokens and text


@dataclass
class CheckpointConfig:
    every: int = 50  # steps; 0: only at the end
    keep: int = 2
    best: str = ""  # of the validation suite: "accuracy subject to ece <= 0.1"; that model is kept too. Empty: none


@dataclass
class TrackingConfig:
    wandb: str = "offline"  # off | offline | online: nothing leaves the machine unless asked for
    wandb_project: str = "carerl"
    wandb_entity: str = ""  # the user or team that it is filed under; empty: the key's own
    wandb_rollout_rows: int = 0  # of each rollout table: prompts and responses leave the machine only when asked for
    wandb_checkpoint: bool = False  # the last checkpoint's model goes along as an artifact
    rollouts_every: int = 10  # steps between rollout tables, each a forward pass of the learner more; 0: none
    display: str = "auto"  # auto | live | plain | quiet


@dataclass
class ClusterConfig:
    address: str = ""  # of a running Ray cluster; empty: the one of RAY_ADDRESS, else a local one
    wait_seconds: float = 0.0  # that nodes of a cluster with an autoscaler may take to come; 0: what is there decides
    answer_seconds: float = 60.0  # that an actor at work may give no sign of life; after a stop a quarter of it
    progress_minutes: float = 30.0  # that one may be alive without progress, four times that to load or save
    gpus_per_node: int = 0
    gpu: str = ""  # the card that a plan counts with, see carerl/config/plan/cards.py; empty: h100 is assumed
    gpu_memory_gib: float = 0.0  # of one GPU, in place of the card's own; 0: the card's
    gpu_tflops: float = 0.0  # dense bfloat16 matmul rate in TFLOP/s, in place of the card's own; 0: the card's
    gpu_bandwidth_tbps: float = 0.0  # memory bandwidth in TB/s, in place of the card's own; 0: the card's


@dataclass
class RunConfig:
    recipe: str = ""  # set by the loader
    description: str = ""
    kind: str = "rl"  # rl | sft | untrained: only a model and a byte-level tokenizer are made
    seed: int = 100
    steps: int = 200
    prompts_per_step: int = 32
    task: Any = None
    algorithm: Any = None
    regularizer: Any = None
    reward: Any = None
    model: ModelConfig = field(default_factory=ModelConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)
    grading: GradingConfig = field(default_factory=GradingConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    sync: SyncConfig = field(default_factory=SyncConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    plugins: list[str] = field(default_factory=list)
    runs_dir: str = "runs"
    run_dir: str = ""  # empty: a fresh one under runs_dir
    resume: str = ""  # a run directory to go on with; auto: what is in run_dir, or a new run there
    dry_run: bool = False
    profile: bool = False  # writes where the time of a few steps went: profile.txt, profile.json
    rehearse: bool = False  # all of it on this machine's CPU: a small model of drawn weights, outcomes by coin flips

    @property
    def evaluates(self) -> bool:
        """Whether any evaluation is due: by itself, or at the start, in between or at the end of an RL run."""
        e = self.evaluation
        return self.kind == "evaluate" or (self.kind == "rl" and (e.at_start or e.at_end or 0 < e.every < self.steps))
