"""Refuses adapters that the model has no layers for, or that the rest of a run does not go with."""

from __future__ import annotations

from carerl.config.schema import RunConfig
from carerl.config.shapes import effective_shape, layer_matrices
from carerl.errors import ConfigError, suggestion
from carerl.settings import Errors

OFF = "write learner.lora.rank=0"
LARGEST_OF_VLLM = 512  # rank that its layers make room for


def lora_pairings(c: RunConfig) -> Errors:
    """Yields an error for each setting of a run that adapters do not go with."""
    lora = c.learner.lora
    if not lora.rank:
        return
    if not c.trains_on_questions:
        reason = "a model that is made from nothing has no weights that could stay as they are"
        if not c.does.trains:
            reason = "this kind of run trains nothing"
        yield ConfigError("learner.lora.rank", lora.rank, reason, OFF)
        return
    yield from _layers(c)
    if c.rollout.engine == "vllm" and lora.rank > LARGEST_OF_VLLM:
        remedy = f"write learner.lora.rank={LARGEST_OF_VLLM} or less, or rollout.engine=hf"
        yield ConfigError("learner.lora.rank", lora.rank, f"vLLM takes a rank of {LARGEST_OF_VLLM} at most", remedy)
    own, other = c.learner.compute_dtype, c.reference.compute_dtype
    if own != other:
        reason = f"the reference is the learner without its adapters, which computes in {own}"
        yield ConfigError("reference.compute_dtype", other, reason, f"write reference.compute_dtype={own}")
    if c.learner.backend == "deepspeed" and own == "bfloat16" and c.model.dtype == "float32":
        reason = "deepspeed keeps frozen weights in learner.compute_dtype, so that the engines would have others"
        remedy = "write model.dtype=bfloat16, learner.backend=fsdp2 or learner.compute_dtype=float32"
        yield ConfigError("model.dtype", c.model.dtype, reason, remedy)


def _layers(c: RunConfig) -> Errors:
    """Yields an error for targets that the model does not have, and for a rank that is more than they can use."""
    lora, (shape, origin) = c.learner.lora, effective_shape(c)
    matrices = layer_matrices(shape)
    if not lora.targets:
        reason = "without a layer that gets adapters nothing would be trained"
        yield ConfigError("learner.lora.targets", [], reason, f"choose from {', '.join(matrices)}, or {OFF}")
    for name in lora.targets:
        if name not in matrices:
            reason = f"the layers of {shape.architecture} have {', '.join(matrices)}"
            yield ConfigError("learner.lora.targets", name, reason, suggestion(name, list(matrices), ""))
    sides = {name: min(matrices[name]) for name in lora.targets if name in matrices}
    if sides and lora.rank > min(sides.values()):
        least = min(sides, key=lambda name: sides[name])
        inputs, outputs = matrices[least]
        reason = f"{least} is {outputs} × {inputs} ({origin}): a product B·A of more columns can be nothing more"
        yield ConfigError("learner.lora.rank", lora.rank, reason, f"write learner.lora.rank={sides[least]} or less")
