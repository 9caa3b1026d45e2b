"""Every setting of a run, as plain dataclasses.

``task``, ``algorithm``, ``regularizer`` and ``reward`` are chosen by ``name``; their dataclasses stand
beside the code they configure, and :mod:`carerl.config.load` puts the chosen one in place, so that a key
which the chosen one does not have is refused.

Units: tokens, rows, seconds, MiB or GiB as the field's name says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from carerl.algorithms import AlgorithmConfig
from carerl.config.check.wandb_names import entity_errors, project_errors
from carerl.config.kinds import KINDS, Kind
from carerl.config.plan.card_table import CARDS
from carerl.decisions import DecisionConfig
from carerl.errors import ConfigError, suggestion
from carerl.regularizers import RegularizerConfig
from carerl.rewards import RewardConfig
from carerl.settings import Errors, Limit, Run, Settings, above, at_least, one_of, share
from carerl.tasks import TaskConfig

DTYPES = ("float32", "bfloat16")
COMPUTE_DTYPES = (*DTYPES, "float64")
ARCHITECTURES = ("qwen2", "qwen3", "llama")


def _are_betas(betas: Sequence[float]) -> bool:
    return len(betas) == 2 and all(0 <= beta < 1 for beta in betas)


TOP_P = Limit("above 0, at most 1", lambda p: 0 < p <= 1, "it must be above 0 and at most 1", "write {key}=1 for off")
TOP_K = Limit(
    "at least 1, or -1 for off",
    lambda k: k == -1 or k >= 1,
    "it is a count of tokens, or -1 for off",
    "write {key}=-1",
)
GPU_SHARE = Limit(
    "above 0, at most 1", lambda part: 0 < part <= 1, "it is a fraction of the GPU's memory", "write {key}=0.8"
)
BETAS = Limit(
    "two numbers, each from 0 to below 1",
    _are_betas,
    "it must be two numbers, each from 0 to below 1",
    "write {key}=[0.9,0.99]",
)


@dataclass
class ShapeConfig(Settings):
    """A decoder's shape, so that a plan needs no weights and a tiny base can be made from nothing."""

    architecture: str = "qwen3"  # qwen2 | qwen3 | llama: the Hugging Face model_type
    vocab_size: Annotated[int, above(0)] = 64
    hidden_size: Annotated[int, above(0)] = 64
    intermediate_size: Annotated[int, above(0)] = 128
    num_layers: Annotated[int, above(0)] = 3
    num_heads: Annotated[int, above(0)] = 2
    num_kv_heads: Annotated[int, above(0)] = 2
    head_dim: Annotated[int, above(0)] = 32
    attention_bias: bool = False
    tie_embeddings: bool = True
    context_length: Annotated[int, above(0)] = 64
    rope_theta: Annotated[float, above(0)] = 10000.0

    def faults(self, origin: str) -> Errors:
        """Yields an error for each part of the shape that does not go with another; ``origin`` says where the shape is
        from. Not a ``check``: a model's own shape may be in the place of this one."""
        if self.architecture not in ARCHITECTURES:
            yield ConfigError(
                "model.shape.architecture",
                self.architecture,
                f"{origin}: the architectures known here are {', '.join(ARCHITECTURES)}",
                suggestion(self.architecture, ARCHITECTURES, "model.shape.architecture="),
            )
        if self.num_heads % self.num_kv_heads:
            yield ConfigError(
                "model.shape.num_kv_heads",
                self.num_kv_heads,
                f"{origin}: {self.num_heads} heads do not divide into {self.num_kv_heads} groups",
                "give a divisor of model.shape.num_heads",
            )
        if self.head_dim % 2:
            yield ConfigError(
                "model.shape.head_dim",
                self.head_dim,
                "rotary positions need an even head size",
                "give an even number",
            )
        if self.architecture == "qwen2" and self.num_heads * self.head_dim != self.hidden_size:
            yield ConfigError(
                "model.shape.head_dim",
                self.head_dim,
                f"{origin}: in qwen2 it is hidden_size / num_heads = {self.hidden_size / self.num_heads:g}",
                "correct one of the three",
            )
        if self.architecture == "qwen2" and not self.attention_bias:
            yield ConfigError(
                "model.shape.attention_bias",
                False,
                "qwen2 always has biases on its queries, keys and values",
                "write model.shape.attention_bias=true, or choose qwen3",
            )


@dataclass
class ModelConfig(Settings):
    path: str = ""  # a Hugging Face directory or hub id; empty when base_recipe makes it
    revision: str = ""  # of a hub's model: a commit, tag or branch; empty: the newest. The run writes the commit down
    base_recipe: str = ""  # the recipe that trains the base model, e.g. base_tiny (built and cached on demand)
    base_overrides: list[str] = field(default_factory=list)  # key=value for the base recipe, e.g. ["steps=20"]
    shape: ShapeConfig = field(default_factory=ShapeConfig)
    dtype: Annotated[str, one_of(DTYPES)] = "float32"  # of the stored weights and of the engine: float32 | bfloat16
    trust_remote_code: bool = False


@dataclass
class RolloutConfig(Settings):
    engine: Annotated[str, one_of(("vllm", "hf"))] = "vllm"  # vllm | hf
    actors: Annotated[int, at_least(1)] = 1
    tensor_parallel: Annotated[int, at_least(1)] = 1  # GPUs per actor
    temperature: Annotated[float, above(0)] = 1.0
    top_p: Annotated[float, TOP_P] = 1.0
    top_k: Annotated[int, TOP_K] = -1
    max_new_tokens: Annotated[int, at_least(1)] = 8
    max_model_len: Annotated[int, at_least(2)] = 64  # prompt + response, tokens
    max_batch_rows: Annotated[int, at_least(1)] = 256  # sequences that the engine decodes at once
    kv_cache_gib: Annotated[float, above(0)] = 0.25  # on CPU
    gpu_memory_utilization: Annotated[float, GPU_SHARE] = 0.5
    enforce_eager: bool = True
    # torch threads per actor; 0: its whole CPUs of Ray's, at least 1; on a GPU the engine's own
    threads: Annotated[int, at_least(0)] = 0
    cpus_per_actor: Annotated[float, at_least(0)] = 0.2
    gpus_per_actor: Annotated[float, at_least(0)] = 0.0
    end_ids: list[int] = field(default_factory=list)  # tokens that end a response: found and written down by the run

    def check(self, run: Run) -> Errors:
        if not run.starts_engines:
            return
        for key, value, off in (("top_p", self.top_p, 1.0), ("top_k", self.top_k, -1)):
            if value != off:
                yield ConfigError(
                    f"rollout.{key}",
                    value,
                    "training rollouts must come from the distribution that the learner computes; with its tail "
                    "cut, the engine's log-probs are not the learner's",
                    f"write rollout.{key}={off:g} (evaluation.{key} is free)",
                )
        if self.max_new_tokens >= self.max_model_len:
            yield ConfigError(
                "rollout.max_new_tokens",
                self.max_new_tokens,
                f"with a prompt it does not fit rollout.max_model_len={self.max_model_len}",
                "lower it, or raise rollout.max_model_len",
            )
        if self.gpus_per_actor == 0 and self.tensor_parallel > 1:
            yield ConfigError(
                "rollout.tensor_parallel",
                self.tensor_parallel,
                "an engine without GPUs is not split",
                "write rollout.tensor_parallel=1, or give rollout.gpus_per_actor",
            )
        elif self.tensor_parallel > max(1, int(self.gpus_per_actor)):
            yield ConfigError(
                "rollout.tensor_parallel",
                self.tensor_parallel,
                f"an actor has {self.gpus_per_actor:g} GPUs",
                f"write rollout.gpus_per_actor={self.tensor_parallel}",
            )


@dataclass
class ReferenceConfig(Settings):
    # actors: of its own | learner: on the learner's ranks, nothing travels: for few GPUs, or full on long responses
    place: Annotated[str, one_of(("actors", "learner"))] = "actors"
    # steps between reports of the reverse KL where no penalty needs it; 0: evaluations only
    report_every: Annotated[int, at_least(0)] = 10
    compute_dtype: Annotated[str, one_of(COMPUTE_DTYPES)] = "float32"
    actors: Annotated[int, at_least(1)] = 1  # this and what follows is not used with place=learner
    micro_batch_rows: Annotated[int, at_least(1)] = 256
    micro_batch_tokens: Annotated[int, at_least(1)] = 16384  # padding counted too; a longer row goes alone
    # per actor; 0: its whole CPUs of Ray's that its cgroup leaves it, at least 1
    threads: Annotated[int, at_least(0)] = 0
    cpus_per_actor: Annotated[float, at_least(0)] = 0.2
    gpus_per_actor: Annotated[float, at_least(0)] = 0.0


@dataclass
class GradingConfig(Settings):
    """The actors that grade responses and turn outcomes into rewards. Text is graded in child processes of theirs,
    which are ended when an answer takes too long or too much: its outcome is then ``invalid``."""

    actors: Annotated[int, at_least(1)] = 1
    processes: Annotated[int, at_least(1)] = 1  # per actor
    seconds: Annotated[float, above(0)] = 5.0  # of processor time, for one answer or for comparing two
    memory_mib: Annotated[int, at_least(64)] = 1024  # for one answer, above what the process has
    # share of a step's or a suite's responses that may fail to be graded; above it a run ends
    max_invalid: Annotated[float, share(0.2)] = 0.2
    cpus_per_actor: Annotated[float, at_least(0)] = 0.1


@dataclass
class OptimizerConfig(Settings):
    lr: Annotated[float, at_least(0)] = 1e-3
    betas: Annotated[list[float], BETAS] = field(default_factory=lambda: [0.9, 0.99])
    eps: Annotated[float, above(0)] = 1e-8
    weight_decay: Annotated[float, at_least(0)] = 0.0
    grad_clip: Annotated[float, at_least(0)] = 1.0  # global norm; 0: off


@dataclass
class ScheduleConfig(Settings):
    name: Annotated[str, one_of(("constant", "linear", "cosine"))] = "linear"  # constant | linear | cosine
    warmup_steps: Annotated[int, at_least(0)] = 10  # counted in steps of the loop
    final_fraction: Annotated[float, share(0.05)] = 0.05  # of lr, at the last step


@dataclass
class LearnerConfig(Settings):
    backend: Annotated[str, one_of(("fsdp2", "deepspeed"))] = "fsdp2"  # fsdp2 | deepspeed
    ranks: Annotated[int, at_least(1)] = 1
    # fsdp2: ranks that hold the model once together, as those of a node; the groups are replicas. 0: all ranks
    shard_ranks: Annotated[int, at_least(0)] = 0
    # deepspeed: ranks share optimizer state (1), gradients too (2), weights too (3)
    zero_stage: Annotated[int, one_of((1, 2, 3))] = 2
    micro_batch_rows: Annotated[int, at_least(1)] = 128
    head_chunk_tokens: Annotated[int, at_least(1)] = 4096  # tokens whose logits exist at one time
    # of the forward pass; log-probs and regularizers are float32 always
    compute_dtype: Annotated[str, one_of(COMPUTE_DTYPES)] = "float32"
    gradient_checkpointing: bool = False
    activation_offload: bool = False  # on GPUs: what the backward pass needs waits in host memory
    # on GPUs: optimizer state is in host memory, and weights too but for deepspeed's zero_stage 1 and 2
    cpu_offload: bool = False
    compile: bool = False  # the layers, with torch.compile: faster steps after minutes of compilation
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    threads: Annotated[int, at_least(0)] = 0  # per rank, as the reference's
    cpus_per_rank: Annotated[float, at_least(0)] = 0.2
    gpus_per_rank: Annotated[float, at_least(0)] = 0.0


@dataclass
class SyncConfig(Settings):
    # auto | nccl (from GPU to GPU) | ipc (on one GPU) | shm (a node's shared memory) | store (Ray's object store)
    transfer: Annotated[str, one_of(("auto", "nccl", "ipc", "shm", "store"))] = "auto"
    bucket_mib: Annotated[int, at_least(1)] = 512  # of weights that are sent in one piece; the sender has two of them
    probe_every: Annotated[int, at_least(0)] = 10  # syncs between two parity probes; 0: only at the first
    probe_prompts: Annotated[int, at_least(1)] = 16  # one to an engine where there are more engines
    # nats, mean |engine − learner| of the probe's tokens; 0: what the dtypes allow
    probe_mean_abort: Annotated[float, at_least(0)] = 0.0
    # nats, what 99.9 % of the probe's tokens do not exceed; 0: what the dtypes allow
    probe_q999_abort: Annotated[float, at_least(0)] = 0.0
    mismatch_mean_abort: Annotated[float, at_least(0)] = 0.0  # nats, as probe_mean_abort, of a step's rollouts
    mismatch_q999_abort: Annotated[float, at_least(0)] = 0.0  # nats, as probe_q999_abort, of a step's rollouts


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


@dataclass
class ClusterConfig(Settings):
    address: str = ""  # of a running Ray cluster; empty: the one of RAY_ADDRESS, else a local one
    # that nodes of a cluster with an autoscaler may take to come; 0: what is there decides
    wait_seconds: Annotated[float, at_least(0)] = 0.0
    # that an actor at work may give no sign of life; after a stop a quarter of it
    answer_seconds: Annotated[float, at_least(1)] = 60.0
    # that one may be alive without progress, four times that to load or save
    progress_minutes: Annotated[float, above(0)] = 30.0
    gpus_per_node: Annotated[int, at_least(0)] = 0
    # the card that a plan counts with, see carerl/config/plan/card_table.py; empty: h100 is assumed
    gpu: Annotated[str, one_of(("", *CARDS))] = ""
    gpu_memory_gib: Annotated[float, at_least(0)] = 0.0  # of one GPU, in place of the card's own; 0: the card's
    # dense bfloat16 matmul rate in TFLOP/s, in place of the card's own; 0: the card's
    gpu_tflops: Annotated[float, at_least(0)] = 0.0
    # memory bandwidth in TB/s, in place of the card's own; 0: the card's
    gpu_bandwidth_tbps: Annotated[float, at_least(0)] = 0.0


@dataclass
class RunConfig(Settings):
    recipe: str = ""  # set by the loader
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
