"""The weights that a learner starts from, and how they reach its ranks.

Every rank builds the modules alone, without memory for their parameters. Rank 0 reads the files, once, one tensor after
another; each tensor is sent as it lies in the file, and a rank keeps its own part of it. So no process and no device
holds the whole model in float32: one of 32 billion parameters loads where a rank's share of it fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from carerl import progress
from carerl.backends.learners.totals import gather_json
from carerl.backends.models import load_model
from carerl.backends.whole_checkpoint import check_weights, converted_by_loader, empty_model, refuse_not_finite
from carerl.config.stored_weights import UnusableModel, stored_tensors
from carerl.errors import ConfigError
from carerl.types import RunError

STORED_DTYPES = {"BF16": "bfloat16", "F16": "float16"}  # as safetensors names them


@dataclass(frozen=True)
class StartingModel:
    """A model that is about to be sharded.

    ``model``: a Hugging Face causal language model whose parameters are on the meta device; its buffers are real.
    ``read``: yields (name, tensor) for every name in :attr:`names`, in that order. Only rank 0 calls it.
    """

    model: Any
    read: Callable[[torch.device], Iterator[tuple[str, Tensor]]]

    @property
    def names(self) -> list[str]:
        """Parameters, each once though it may be tied, and then the buffers that a checkpoint has."""
        parameters = [name for name, _ in self.model.named_parameters()]
        every = {name for name, _ in self.model.named_parameters(remove_duplicate=False)}
        return parameters + [name for name in self.model.state_dict() if name not in every]

    def rounded(self, dtype: torch.dtype) -> StartingModel:
        """Returns the same model with weights that are rounded to ``dtype`` as they are read."""
        return StartingModel(self.model, lambda device: ((name, t.to(dtype)) for name, t in self.read(device)))

    def arriving(self, device: torch.device) -> Iterator[tuple[str, torch.dtype, Tensor | None]]:
        """Yields name and stored dtype of every tensor, and on rank 0 the tensor itself, on ``device``.

        Collective. If rank 0 cannot read a tensor, every rank raises what rank 0 met; otherwise the others would wait
        for it.
        """
        reading = self.read(device) if dist.get_rank() == 0 else None
        for name in self.names:
            tensor, told = _next(reading) if reading is not None else (None, {})
            told = gather_json(told, device)[0]
            if "refused" in told:
                raise UnusableModel(*told["refused"])
            if "failed" in told:
                raise RunError(f"rank 0 could not read {name}: {told['failed']}")
            yield name, getattr(torch, told["dtype"]), tensor
            progress.step()


def _next(reading: Iterator[tuple[str, Tensor]]) -> tuple[Tensor | None, dict[str, Any]]:
    """Returns the next tensor, and what the other ranks must know of it. An error is told to all, who raise it."""
    try:
        _, tensor = next(reading)
    except ConfigError as error:
        return None, {"refused": [error.field, error.value, error.reason, error.remedy]}
    except Exception as error:
        return None, {"failed": f"{type(error).__name__}: {error}"}
    return tensor, {"dtype": str(tensor.dtype).removeprefix("torch.")}


def in_memory(model: Any) -> StartingModel:
    """Returns a model that is already there, the same on every rank. Its weights are moved out of it."""
    start = StartingModel(model, lambda device: iter(()))
    stored = {name: tensor for name, tensor in model.state_dict(keep_vars=True).items() if name in set(start.names)}
    kept = [(name, stored[name].detach()) for name in start.names] if dist.get_rank() == 0 else []
    materialise(model, torch.device("meta"))
    return StartingModel(model, lambda device: ((name, tensor.to(device)) for name, tensor in kept))


def from_files(path: str, trust_remote_code: bool = False) -> StartingModel:
    """Returns the model of a directory. The ranks other than 0 read ``config.json`` and no weight.

    :meth:`StartingModel.arriving` raises ConfigError if a tensor is missing, has another shape or is not finite.
    """
    model = empty_model(path, trust_remote_code)
    model.config.dtype = torch.float32  # as a loaded one says: learners keep their weights so
    names = StartingModel(model, lambda device: iter(())).names  # as in the files: adapters come later
    return StartingModel(model, lambda device: _stored(model, names, path, trust_remote_code, device))


def _stored(
    model: Any, names: Sequence[str], path: str, trust_remote_code: bool, device: torch.device
) -> Iterator[tuple[str, Tensor]]:
    from safetensors import safe_open

    check_weights(path, trust_remote_code)
    stored = stored_tensors(path)
    with ExitStack() as files:
        if converted_by_loader(model):  # names in the files are not the architecture's: its own loader knows
            dtypes = {tensor.dtype for tensor in stored.values()}
            dtype = STORED_DTYPES.get(dtypes.pop(), "float32") if len(dtypes) == 1 else "float32"
            get = load_model(path, dtype, trust_remote_code).state_dict().__getitem__
        else:
            parts = sorted({tensor.file for tensor in stored.values()})
            opened = {part: files.enter_context(safe_open(f"{path}/{part}", "pt")) for part in parts}

            def get(name: str) -> Tensor:
                return opened[stored[name].file].get_tensor(name)

        for name in names:
            tensor = get(name).to(device)
            refuse_not_finite(path, [(name, tensor)])
            yield name, tensor


def materialise(
    model: nn.Module,
    device: torch.device,
    then: Callable[[nn.Parameter], None] = lambda parameter: None,
    dtype: torch.dtype | None = None,
) -> None:
    """Replaces every parameter by an empty one on ``device``, and moves buffers there, unless it is the meta device.
    Tied parameters stay tied. ``then`` is called with each new parameter before the next one is made. ``dtype``: of the
    new ones, if not of the old."""
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if id(parameter) not in made:
                empty = torch.empty_like(parameter, device=device, dtype=dtype)
                made[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
                then(made[id(parameter)])
            module._parameters[name] = made[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is not None and device.type != "meta":
                module._buffers[name] = buffer.to(device)
