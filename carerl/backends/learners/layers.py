"""Prepares a model's layers for training, however it is sharded: checkpointing, compilation, offloading."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from carerl.config.schema import LearnerConfig

SMALL = 1024  # values below which moving a tensor costs more than it frees


def prepare_layers(model: Any, config: LearnerConfig) -> None:
    """Makes a Hugging Face model ready to be trained, before it is sharded."""
    if config.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    if config.compile:
        # The forward function and not the module: hooks that gather weights run outside of what is compiled.
        for layer in model.get_decoder().layers:
            layer.forward = torch.compile(layer.forward, dynamic=True)


def offload_activations(policy: nn.Module) -> None:
    """Has what the forward pass saves for the backward pass wait in host memory. Weights stay where they are, the
    reference's head among them: they are there anyway, or gathered again."""
    forward = policy.forward

    def away(saved: Tensor) -> Tensor | tuple[torch.device, Tensor]:
        head = policy.frozen_ref_head_VD
        frozen = isinstance(head, Tensor) and _same_memory(saved, head)
        return saved if frozen else _away(saved)

    def offloaded(*arguments: Any, **named: Any) -> Any:
        with torch.autograd.graph.saved_tensors_hooks(away, _back):
            return forward(*arguments, **named)

    policy.forward = offloaded


def _same_memory(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _away(saved: Tensor) -> Tensor | tuple[torch.device, Tensor]:
    base = saved if saved._base is None else saved._base
    if isinstance(base, nn.Parameter) or saved.numel() < SMALL:
        return saved
    host = torch.empty_like(saved, device="cpu", pin_memory=saved.is_cuda)
    host.copy_(saved, non_blocking=False)
    return saved.device, host


def _back(packed: Tensor | tuple[torch.device, Tensor]) -> Tensor:
    if isinstance(packed, Tensor):
        return packed
    device, host = packed
    return host.to(device, non_blocking=True)
