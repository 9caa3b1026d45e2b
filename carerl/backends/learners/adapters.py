"""A learner that trains adapters (:mod:`carerl.backends.lora`) and leaves the model as it is."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from carerl.backends.learners.starting import StartingModel
from carerl.backends.lora import A, adapt, is_adapter, on_its_way
from carerl.config.schema import LoraConfig
from carerl.seeds import derived_seed


def adapted(start: StartingModel, lora: LoraConfig, dtype: torch.dtype, seed: int) -> StartingModel:
    """Gives a model that is about to be sharded adapters, and returns it. Its own weights are kept in ``dtype``, the
    engines', because nothing is added to them; adapters are float32 at least.

    B is zero. A is drawn from the run's ``seed``, so it is the same for every backend and any number of ranks.
    """
    adapt(start.model, lora)
    wide = torch.promote_types(dtype, torch.float32)
    for name, parameter in start.model.named_parameters():
        parameter.data = parameter.data.to(wide if is_adapter(name) else dtype)
    shapes = {name: tuple(parameter.shape) for name, parameter in start.model.named_parameters()}

    def read(device: torch.device) -> Iterator[tuple[str, Tensor]]:
        own, drawn = start.read(device), 0
        for name in whole.names:
            if is_adapter(name):
                tensor = _first(name, shapes[name], derived_seed(seed, drawn))
                drawn += 1
            else:
                found, tensor = next(own)
                if found != on_its_way(name):
                    raise RuntimeError(f"the model's files give {found} where {name} is expected")
            yield name, tensor.to(device, wide if is_adapter(name) else dtype)

    whole = StartingModel(start.model, read)
    return whole


def _first(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """Returns the first values of an adapter. A as peft draws it: uniform within 1/sqrt(columns), which is Kaiming's
    with a = sqrt(5)."""
    if not name.endswith(A):
        return torch.zeros(shape)
    bound = 1 / math.sqrt(shape[1])
    return torch.empty(shape).uniform_(-bound, bound, generator=torch.Generator().manual_seed(seed))
