"""Settings of the model: where its weights come from, and its shape."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from carerl.errors import ConfigError, suggestion
from carerl.settings import Errors, Settings, above, one_of

DTYPES = ("float32", "bfloat16")
COMPUTE_DTYPES = (*DTYPES, "float64")
ARCHITECTURES = ("qwen2", "qwen3", "llama")


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
