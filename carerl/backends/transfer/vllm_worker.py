"""Receives weights in vLLM's workers, by vLLM's own calls.

vLLM adds :class:`Receives` to its worker class (``worker_extension_cls``). Its methods are called by name, so they
reach tensor-parallel workers in other processes too, and no function has to be pickled. They do what vLLM's calls
leave out:

- a digest of what is loaded, whatever the kind of transfer: the model's ``load_weights`` is wrapped while an update is
  open
- a fresh start after an update that was not finished
- a tied head on the CPU: it has a packed copy, which a reload does not make anew because the checkpoint has no tensor
  for it
- the current config of vLLM, which 0.25 does not set around these calls
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from vllm.config import set_current_vllm_config
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info

from carerl.backends.transfer.digest import Received, Tally
from carerl.backends.transfer.host import HostReceiver

HOST = "carerl_host"


class Receives:
    """Is added to vLLM's worker class."""

    carerl_tally: Tally | None = None  # of the update that is open

    def carerl_init(self, info: dict[str, Any]) -> None:
        """Prepares to receive."""
        with set_current_vllm_config(self.vllm_config):  # type: ignore[attr-defined]
            self.init_weight_transfer_engine(info)  # type: ignore[attr-defined]

    def carerl_start(self) -> None:
        """Begins an update. One that was left open is ended first: its layers are put back as they were."""
        engine: Any = self.weight_transfer_engine  # type: ignore[attr-defined]
        with set_current_vllm_config(self.vllm_config):  # type: ignore[attr-defined]
            if self.carerl_tally is not None:
                self._carerl_unwrap()
                with suppress(Exception):  # whatever it says, all weights come anew
                    engine.finish_weight_update()
                self._weight_update_active = False
            self.start_weight_update()  # type: ignore[attr-defined]
        tally, load = Tally(), engine.model.load_weights

        def load_weights(weights: Iterable[tuple[str, Tensor]], *args: Any, **kwargs: Any) -> Any:
            return load(tally.passing(weights), *args, **kwargs)

        self.carerl_tally = tally
        engine.model.load_weights = load_weights

    def carerl_update(self, info: dict[str, Any]) -> None:
        """Takes a part of the weights."""
        with set_current_vllm_config(self.vllm_config):  # type: ignore[attr-defined]
            self.update_weights(info)  # type: ignore[attr-defined]

    def carerl_finish(self) -> Received:
        """Ends the update; returns what came."""
        tally = self.carerl_tally
        if tally is None:
            raise RuntimeError("no weight update is open")
        with set_current_vllm_config(self.vllm_config):  # type: ignore[attr-defined]
            self.finish_weight_update()  # type: ignore[attr-defined]
            repack_tied_head(self.weight_transfer_engine.model)  # type: ignore[attr-defined]
        self._carerl_unwrap()  # not before: an update whose end fails is one that was left open
        return tally.received

    def _carerl_unwrap(self) -> None:
        self.carerl_tally = None
        self.weight_transfer_engine.model.__dict__.pop("load_weights", None)  # type: ignore[attr-defined]


@dataclass
class HostInit(WeightTransferInitInfo):
    """The sender's segments of shared memory: path and size of each."""

    segments: list[tuple[str, int]]


@dataclass
class HostUpdate(WeightTransferUpdateInfo):
    """A bucket, see :class:`carerl.backends.transfer.host.HostReceiver`."""

    info: dict[str, Any]


class HostEngine(WeightTransferEngine):
    """Receives through the memory of the host, on CPU and GPU."""

    init_info_cls = HostInit
    update_info_cls = HostUpdate

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._receiver = HostReceiver()

    def init_transfer_engine(self, init_info: HostInit) -> None:
        self._receiver.init(init_info.segments)

    def start_weight_update(self) -> None:
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Takes a bucket. It is in place when this returns: vLLM's own method waits for an accelerator, and there may
        be none."""
        self.receive_weights(HostUpdate(update_info))
        if self.device.type != "cpu":
            torch.accelerator.synchronize()

    def receive_weights(self, update_info: HostUpdate) -> None:
        bucket = list(self._receiver.tensors(update_info.info))
        self.model.load_weights(bucket)
        _copy_what_is_kept(self.model, bucket[0][1].untyped_storage().data_ptr())

    def finish_weight_update(self) -> None:
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        finalize_layerwise_reload(self.model, self.model_config)

    def shutdown(self) -> None:
        self._receiver = HostReceiver()

    @staticmethod
    def trainer_send_weights(*args: Any, **kwargs: Any) -> None:
        """Is asked for by vLLM 0.25; :class:`carerl.backends.transfer.host.HostSender` sends."""
        raise RuntimeError("HostSender sends for this engine")


def _copy_what_is_kept(model: torch.nn.Module, bucket: int) -> None:
    """Copies what vLLM still holds on to of a bucket, given by its address: the bucket will be overwritten.

    vLLM puts a module's weights in place once all of them are there. So it keeps the parts of a fused projection that
    begins in one bucket and ends in the next, and to the end an embedding whose vocabulary it pads. vLLM's own
    receiver by IPC copies every tensor for this reason.
    """
    for module in model.modules():
        for _, call in get_layerwise_info(module).loaded_weights:
            for name, value in call.arguments.items():
                if isinstance(value, Tensor) and value.untyped_storage().data_ptr() == bucket:
                    call.arguments[name] = value.clone()


# Here and not where an engine is built: a tensor-parallel worker is a process of its own, which imports this module as
# vLLM extends its class, and then looks the name up.
WeightTransferEngineFactory.register_engine(HOST, HostEngine)


def backend_for(kind: str) -> str:
    """Returns vLLM's name of the engine that receives a kind of transfer."""
    return kind if kind in ("nccl", "ipc") else HOST


def repack_tied_head(model: Any) -> None:
    """Packs a head anew that is tied to the embedding and has a packed copy, as on the CPU."""
    head = getattr(model, "lm_head", None)
    method = getattr(head, "quant_method", None)
    if head is not None and hasattr(head, "cpu_linear") and method is not None:
        method.process_weights_after_loading(head)
