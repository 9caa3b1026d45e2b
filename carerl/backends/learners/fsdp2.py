"""Shards a learner with PyTorch's ``fully_shard`` (FSDP2), on gloo or NCCL."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor

from carerl.backends.hashed import Write
from carerl.backends.learners.fragments import WEIGHT, fresh_optimizer, holds, stored
from carerl.backends.learners.layers import offload_activations, prepare_layers
from carerl.backends.learners.policy import Policy
from carerl.backends.learners.resting import RestingOptimizer, free_cached
from carerl.backends.learners.starting import StartingModel
from carerl.backends.models import DTYPES
from carerl.backends.transfer.source import TensorMeta, WeightSource
from carerl.config.schema import LearnerConfig

# Parameters from which on a layer is gathered by itself. Smaller layers are gathered with the rest: the hooks of a unit
# cost about 0.3 ms a pass, a tenth of a tiny model's step.
SMALLEST_UNIT = 2**20


def mesh_of(config: LearnerConfig, device: torch.device) -> DeviceMesh:
    """Returns the ranks as a table: a row for each replica, whose ranks hold the model once together."""
    size = config.shard_ranks or dist.get_world_size()
    return init_device_mesh(device.type, (dist.get_world_size() // size, size), mesh_dim_names=("replicate", "shard"))


def sharding(mesh: DeviceMesh) -> DeviceMesh:
    """Returns the mesh as ``fully_shard`` takes it: one replica needs no second axis."""
    return mesh if mesh.size(0) > 1 else mesh["shard"]


@torch.no_grad()
def fill(policy: Policy, start: StartingModel, mesh: DeviceMesh, home: torch.device) -> None:
    """Gives every rank its part of each weight of a sharded policy, on ``home``. A weight travels in the dtype of the
    file, and is widened where it arrives. The first replica gets it from rank 0, and every other one from the first."""
    device = policy.device
    policy._apply(lambda t: torch.empty_like(t, device=home) if t.is_meta else t.to(device))
    own = {name.removeprefix("model."): tensor for name, tensor in policy.state_dict(keep_vars=True).items()}
    across, inside = mesh.get_group("replicate"), mesh.get_group("shard")
    first, ranks = mesh.get_local_rank("replicate") == 0, mesh.size(1)
    for name, dtype, whole in start.arriving(device):
        target = own[name]
        if not isinstance(target, DTensor):  # a buffer
            arrived = torch.empty_like(target, dtype=dtype) if whole is None else whole
            dist.broadcast(arrived, src=0)
            target.copy_(arrived)
            continue
        rows = -(-target.shape[0] // ranks)
        part = torch.empty((rows, *target.shape[1:]), dtype=dtype, device=device)
        if first:
            parts = None if whole is None else [_padded(whole[k * rows : (k + 1) * rows], rows) for k in range(ranks)]
            dist.scatter(part, parts, group=inside, group_src=0)
        if mesh.size(0) > 1:
            dist.broadcast(part, group=across, group_src=0)
        local = target.to_local()
        local.copy_(part[: len(local)])


class FSDP2Shards:
    """One rank's part.

    With ``learner.shard_ranks`` the ranks form groups of so many. A group holds the model once, and the groups are
    replicas (HSDP): weights are gathered inside a group, which should be one node with its fast links. Gradients are
    summed inside a group in every micro-batch, and between groups once, in the last one. Inside a group nothing is put
    off: gradients of the whole model would stay on every rank until then, 4 bytes a parameter, 28 GiB for 7 billion,
    which do not fit beside the rest on 80 GB and save 0.1 s a micro-batch at NVLink's rate.
    """

    def __init__(self, start: StartingModel, config: LearnerConfig, device: torch.device):
        self._grad_clip = config.optimizer.grad_clip or math.inf
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.device = device
        model = start.model
        self.hf_config = model.config
        prepare_layers(model, config)
        own = next(model.parameters()).dtype
        self.stream_dtype = torch.promote_types(own, torch.float32)  # float64 only for a float64 model
        self._mesh = mesh_of(config, device)
        self.policy = Policy(model, config.head_chunk_tokens, device, config.compile)
        self._shard(config)
        fill(self.policy, start, self._mesh, torch.device("cpu") if config.cpu_offload else device)
        if config.activation_offload:
            offload_activations(self.policy)
        self._parameters = [p for p in self.policy.parameters() if p.requires_grad]
        optimizer = config.optimizer
        self.optimizer = torch.optim.AdamW(
            self._parameters,
            lr=optimizer.lr,
            betas=(optimizer.betas[0], optimizer.betas[1]),
            eps=optimizer.eps,
            weight_decay=optimizer.weight_decay,
            foreach=True,
        )
        self._resting = RestingOptimizer(self.optimizer, device) if config.optimizer_offload else None

    def _shard(self, config: LearnerConfig) -> None:
        """Wraps the policy, whose weights are still to come. Layers that are large are gathered one by one."""
        compute = DTYPES[config.compute_dtype]
        alike = all(parameter.dtype == compute for parameter in self.policy.parameters())
        mixed = MixedPrecisionPolicy(
            param_dtype=None if alike else compute,
            reduce_dtype=self.stream_dtype,
            cast_forward_inputs=False,  # the reference's hidden states keep their own precision
        )
        pinned = self.device.type != "cpu"
        offload = CPUOffloadPolicy(pin_memory=pinned) if config.cpu_offload else OffloadPolicy()
        wrap = partial(fully_shard, mesh=sharding(self._mesh), mp_policy=mixed, offload_policy=offload)
        for layer in self.policy.decoder.layers:  # type: ignore[union-attr]
            if sum(parameter.numel() for parameter in layer.parameters()) >= SMALLEST_UNIT:
                wrap(layer)
        wrap(self.policy)

    def backward(self, loss: Tensor, last: bool) -> None:
        """Adds a micro-batch's gradients, summed over the ranks of a group; between groups in the ``last`` one."""
        if self._mesh.size(0) > 1:
            self.policy.set_requires_all_reduce(last)  # type: ignore[operator]
        loss.backward()

    def step(self, lr: float) -> float:
        """Clips the gradient and takes an optimizer step, unless the gradient is not finite; returns its norm before
        clipping."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        gradients = self._gradients()
        norm = self._norm(gradients)
        if math.isfinite(norm):
            if norm > self._grad_clip:
                torch._foreach_mul_(gradients, self._grad_clip / (norm + 1e-6))
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def forget(self) -> float:
        """Clears the gradient, and leaves weights and moments as they are. Returns the gradient's norm."""
        norm = self._norm(self._gradients())
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _gradients(self) -> list[Tensor]:
        """Returns this rank's part of the gradient."""
        return [p.grad.to_local() for p in self._parameters if p.grad is not None]  # type: ignore[attr-defined]

    def _norm(self, gradients: list[Tensor]) -> float:
        """Returns the Euclidean norm of the whole gradient. torch's own cannot sum parts that are in host memory over
        GPUs' links."""
        total = torch.stack(torch._foreach_norm(gradients)).square().sum().to(self.device)
        dist.all_reduce(total, group=self._mesh.get_group("shard"))
        return float(total.sqrt())

    def source(self, dtype: torch.dtype, trained_only: bool = False) -> WeightSource:
        """Returns all parameters, or those that are trained, whole, in ``dtype``."""
        return _Gathered(self.policy, dtype, self.device, trained_only)

    def save(self, directory: Path) -> Write:
        """Copies this rank's shards of model and optimizer to host memory, without what is frozen. Returns the function
        that writes them, in torch's distributed checkpoint format, see
        :func:`carerl.backends.learners.writing.copied`."""
        from carerl.backends.learners.writing import copied

        return copied(self._state(), directory)

    def _state(self) -> dict[str, Any]:
        """Returns this rank's shards of what is trained, and of the optimizer's state. What is frozen is in the model's
        own files. torch would leave it out too, but for the second name of a tied weight."""
        from torch.distributed.checkpoint.state_dict import get_state_dict

        model, optimizer = get_state_dict(self.policy, self.optimizer)
        every = self.policy.named_parameters(remove_duplicate=False)
        frozen = {name for name, parameter in every if not parameter.requires_grad}
        return {"model": {name: own for name, own in model.items() if name not in frozen}, "optimizer": optimizer}

    def load(self, directory: Path) -> str:
        """Restores what ``save`` wrote, also on another number of ranks. Of a checkpoint of deepspeed takes the weights
        alone. Reads it as data, see :mod:`carerl.backends.learners.files`. Returns what a person should know, or ''."""
        import torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint.state_dict import StateDictOptions, set_state_dict

        from carerl.backends.learners.files import Planner, Reader, plain_errors

        if holds(directory):
            self._take_weights(directory)
            return fresh_optimizer("deepspeed", "fsdp2")
        state = self._state()
        with plain_errors():
            dcp.load(state, storage_reader=Reader(str(directory)), planner=Planner())
        set_state_dict(
            self.policy,
            self.optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
            options=StateDictOptions(strict=False),  # nothing lacks: what is in ``state`` was found in the files
        )
        return ""

    def rest(self) -> None:
        """Frees gathered weights and what torch keeps for later; with ``learner.optimizer_offload`` moves the
        optimizer's state to the host. Gradients are freed by every step."""
        _reshard(self.policy)
        if self._resting is not None:
            self._resting.rest()
        free_cached(self.device)

    def resume(self) -> None:
        """Moves the optimizer's state back."""
        if self._resting is not None:
            self._resting.resume()

    def close(self) -> None:
        """Does nothing: Python's collector finds all that refers to a sharded module."""

    @torch.no_grad()
    def _take_weights(self, directory: Path) -> None:
        """Reads the weights of a checkpoint of deepspeed."""
        _reshard(self.policy)
        with stored(directory) as files:
            for name, parameter in _chosen(self.policy, trained_only=True):
                local, row = parameter.to_local(), -(-parameter.shape[0] // self._mesh.size(1))  # type: ignore[attr-defined]
                start = row * self._mesh.get_local_rank("shard") * math.prod(parameter.shape[1:])
                read_N = torch.empty(local.numel())
                files.fill(WEIGHT, name.removeprefix("model."), start, read_N)
                local.copy_(read_N.view(local.shape))


class _Gathered:
    """Gathers one tensor after another, each cast before it travels. See
    :class:`~carerl.backends.transfer.source.WeightSource`."""

    def __init__(self, policy: Policy, dtype: torch.dtype, device: torch.device, trained_only: bool):
        self._policy, self._dtype, self._device, self._trained_only = policy, dtype, device, trained_only

    def metadata(self) -> list[TensorMeta]:
        """Returns what will come, in order."""
        return [
            TensorMeta(name.removeprefix("model."), self._dtype, tuple(parameter.shape))
            for name, parameter in _chosen(self._policy, self._trained_only)
        ]

    @torch.no_grad()
    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Yields (name, tensor) in that order. Collective."""
        _reshard(self._policy)
        for name, parameter in _chosen(self._policy, self._trained_only):
            whole = parameter.to(self._device, self._dtype).full_tensor()  # type: ignore[attr-defined]
            yield name.removeprefix("model."), whole.detach()


def _chosen(policy: Policy, trained_only: bool) -> Iterator[tuple[str, nn.Parameter]]:
    """Yields the parameters of a policy with their names, or those alone that are trained."""
    return ((name, p) for name, p in policy.named_parameters() if p.requires_grad or not trained_only)


def _reshard(policy: Policy) -> None:
    """Frees gathered weights: a forward pass without a backward one leaves the root's."""
    for module in policy.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _padded(part: Tensor, rows: int) -> Tensor:
    """Returns the part with as many rows as all parts have; what is added is never read."""
    if len(part) == rows:
        return part
    whole = part.new_empty((rows, *part.shape[1:]))
    whole[: len(part)] = part
    return whole
