"""Settings of the second model, which judges the steps of solutions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from carerl.config.schema.actors import GPU_SHARE
from carerl.config.schema.model import DTYPES, ShapeConfig
from carerl.errors import ConfigError
from carerl.settings import Errors, Run, Settings, above, at_least, one_of


@dataclass
class JudgeConfig(Settings):
    """A second model that says which steps are wrong (``preference.label=judge``). Its engines run beside the policy's,
    and keep the weights that they are built with. Python files that come with the model are never run."""

    path: str = ""  # a Hugging Face directory or hub id with a chat template; empty: no second model
    revision: str = ""  # of a hub's model, as model.revision
    shape: ShapeConfig = field(default_factory=ShapeConfig)  # for the plan, where the model's files are not here
    dtype: Annotated[str, one_of(DTYPES)] = "bfloat16"
    engine: Annotated[str, one_of(("vllm", "hf"))] = "vllm"  # vllm | hf
    actors: Annotated[int, at_least(1)] = 1
    tensor_parallel: Annotated[int, at_least(1)] = 1  # GPUs per actor
    temperature: Annotated[float, at_least(0)] = 0.0  # 0: the likeliest review
    max_new_tokens: Annotated[int, at_least(1)] = 1024  # of a review
    max_model_len: Annotated[int, at_least(2)] = 4096  # question, solution and review; a longer one is not judged
    max_batch_rows: Annotated[int, at_least(1)] = 256
    kv_cache_gib: Annotated[float, above(0)] = 0.25  # on CPU
    gpu_memory_utilization: Annotated[float, GPU_SHARE] = 0.85
    enforce_eager: bool = True
    threads: Annotated[int, at_least(0)] = 0
    cpus_per_actor: Annotated[float, at_least(0)] = 0.2
    gpus_per_actor: Annotated[float, at_least(0)] = 0.0

    def check(self, run: Run) -> Errors:
        if self.path and self.max_new_tokens >= self.max_model_len:
            yield ConfigError(
                "judge.max_new_tokens",
                self.max_new_tokens,
                f"with a solution it does not fit judge.max_model_len={self.max_model_len}",
                "lower it, or raise judge.max_model_len",
            )
        if self.tensor_parallel > max(1, int(self.gpus_per_actor)):
            yield ConfigError(
                "judge.tensor_parallel",
                self.tensor_parallel,
                f"an actor has {self.gpus_per_actor:g} GPUs",
                f"write judge.gpus_per_actor={self.tensor_parallel}",
            )
