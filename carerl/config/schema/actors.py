"""Settings of the actors that sample, score and grade."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from carerl.config.schema.cutoffs import TOP_K, TOP_P
from carerl.config.schema.model import COMPUTE_DTYPES
from carerl.errors import ConfigError
from carerl.settings import Errors, Limit, Run, Settings, above, at_least, one_of, share

GPU_SHARE = Limit(
    "above 0, at most 1", lambda part: 0 < part <= 1, "it is a fraction of the GPU's memory", "write {key}=0.8"
)


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
    # vLLM, on GPUs: what is sampled for a prompt does not depend on the batch that it is computed in; slower
    batch_invariant: bool = False
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
        if self.batch_invariant and (self.engine != "vllm" or self.gpus_per_actor == 0):
            reason = "vLLM's kernels for it are for GPUs"
            yield ConfigError(
                "rollout.batch_invariant",
                True,
                reason if self.engine == "vllm" else f"it is vLLM's own, and the engine is {self.engine}",
                "write rollout.batch_invariant=false, or give vLLM a GPU (rollout.gpus_per_actor)",
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
    # actors: of its own | learner: on the learner's ranks, nothing travels: for few GPUs, or full on long responses.
    # With learner.lora.rank it is the learner without its adapters in any case
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
