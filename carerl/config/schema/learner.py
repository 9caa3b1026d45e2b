"""Settings of the learner, and of the way of its weights to the engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from carerl.config.schema.model import COMPUTE_DTYPES
from carerl.settings import Limit, Settings, above, at_least, one_of, share


def _are_betas(betas: Sequence[float]) -> bool:
    return len(betas) == 2 and all(0 <= beta < 1 for beta in betas)


BETAS = Limit(
    "two numbers, each from 0 to below 1",
    _are_betas,
    "it must be two numbers, each from 0 to below 1",
    "write {key}=[0.9,0.99]",
)


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
class LoraConfig(Settings):
    """Low-rank adapters (LoRA, arXiv 2106.09685): the model's weights stay as they are, and beside each chosen matrix W
    a product of two narrow ones is trained: W + (alpha / rank) · B · A."""

    # columns of B; 0: no adapters, all weights are trained. Otherwise the reference is the learner without adapters
    rank: Annotated[int, at_least(0)] = 0
    alpha: Annotated[float, above(0)] = 32.0  # the adapters' product is multiplied by alpha / rank
    # names of the linear layers that get adapters
    targets: list[str] = field(
        default_factory=lambda: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    )
    # of a checkpoint's model: merged (whole weights with the adapters' products added) | adapter (adapters alone)
    export: Annotated[str, one_of(("merged", "adapter"))] = "merged"

    @property
    def apart(self) -> bool:
        """True if a checkpoint's model is its adapters alone, which peft puts on the model that was trained from."""
        return self.rank > 0 and self.export == "adapter"


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
    # on GPUs shared with engines (cluster.placement=colocated): optimizer state is in host memory while engines sample
    optimizer_offload: bool = False
    compile: bool = False  # the layers, with torch.compile: faster steps after minutes of compilation
    lora: LoraConfig = field(default_factory=LoraConfig)
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
