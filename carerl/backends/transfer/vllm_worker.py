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
- adapters: the model keeps its weights, so nothing of it is reloaded. What comes is kept to the end of an update, and
  then put in the place of the adapters before, in vLLM's own adapted layers. They add B·(A·x) to a layer's result, as
  the learner's do. Added to weights in bfloat16 instead, a small product would be rounded away
"""

from __future__ import annotations

from collections import Counter
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
from vllm.lora.lora_model import LoRAModel
from vllm.lora.peft_helper import PEFTHelper
from vllm.lora.request import LoRARequest
from vllm.model_executor.model_loader.reload.layerwise import get_layerwise_info

from carerl.backends.transfer.digest import Received, Tally
from carerl.backends.transfer.host import HostReceiver

HOST = "carerl_host"


class Receives:
    """Is added to vLLM's worker class."""

    carerl_tally: Tally | None = None  # of the update that is open
    carerl_came: dict[str, Tensor]  # adapters of the update that is open

    def carerl_init(self, info: dict[str, Any]) -> None:
        """Prepares to receive."""
        with set_current_vllm_config(self.vllm_config):  # type: ignore[attr-defined]
            self.init_weight_transfer_engine(info)  # type: ignore[attr-defined]

    def carerl_start(self) -> None:
        """Begins an update. One that was left open is ended first: its layers are put back as they were."""
        engine: Any = self.weight_transfer_engine  # type: ignore[attr-defined]
        if self._carerl_adapted:
            self._carerl_start_adapters()
            return
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

    def carerl_finish(self, alpha: float) -> Received:
        """Ends the update; returns what came. ``alpha``: adapters' products are multiplied by alpha / rank."""
        tally = self.carerl_tally
        if tally is None:
            raise RuntimeError("no weight update is open")
        if self._carerl_adapted:
            put_adapters(self.model_runner.lora_manager, self.carerl_came, alpha)  # type: ignore[attr-defined]
            self.carerl_came, self._weight_update_active = {}, False
            self._carerl_unwrap()
            return tally.received
        with set_current_vllm_config(self.vllm_config):  # type: ignore[attr-defined]
            self.finish_weight_update()  # type: ignore[attr-defined]
            repack_tied_head(self.weight_transfer_engine.model)  # type: ignore[attr-defined]
        self._carerl_unwrap()  # not before: an update whose end fails is one that was left open
        return tally.received

    @property
    def _carerl_adapted(self) -> bool:
        return self.vllm_config.lora_config is not None  # type: ignore[attr-defined]

    def _carerl_start_adapters(self) -> None:
        """Begins an update of adapters, in place of one that was left open."""
        tally, came = Tally(), {}

        def keep(weights: Iterable[tuple[str, Tensor]], *args: Any, **kwargs: Any) -> None:
            came.update({name: tensor.clone() for name, tensor in tally.passing(weights)})  # a bucket is overwritten

        self.carerl_tally, self.carerl_came = tally, came
        self.weight_transfer_engine.model.load_weights = keep  # type: ignore[attr-defined]
        self._weight_update_active = True

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


def the_adapters() -> LoRARequest:
    """Returns what vLLM knows the only adapters of an engine by."""
    return LoRARequest("policy", 1, "in memory")


def put_adapters(manager: Any, tensors: dict[str, Tensor], alpha: float) -> None:
    """Puts adapters in the place of those before, in the layers of a worker. ``manager``: vLLM's, of the worker. Raises
    RuntimeError for a layer without its A or its B, which vLLM would fail with."""
    halves = Counter(name.rpartition(".lora_")[0] for name in tensors)
    if odd := [layer or "no layer" for layer, count in halves.items() if not layer or count != 2]:
        raise RuntimeError(f"{len(odd)} layers came without both of their adapters ({odd[0]})")
    rank = next(len(tensor) for name, tensor in tensors.items() if name.endswith("lora_A.weight"))
    helper = PEFTHelper(r=rank, lora_alpha=alpha, target_modules=[])
    number, held = the_adapters().lora_int_id, manager._adapter_manager
    adapters = LoRAModel.from_lora_tensors(
        number, tensors, helper, device=manager.device, dtype=manager.lora_config.lora_dtype
    )
    held.remove_adapter(number)
    held.add_adapter(adapters)
    held.activate_adapter(number)


def repack_tied_head(model: Any) -> None:
    """Packs a head anew that is tied to the embedding and has a packed copy, as on the CPU."""
    head = getattr(model, "lm_head", None)
    method = getattr(head, "quant_method", None)
    if head is not None and hasattr(head, "cpu_linear") and method is not None:
        method.process_weights_after_loading(head)
