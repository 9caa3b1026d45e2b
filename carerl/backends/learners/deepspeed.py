"""Shards a learner with DeepSpeed's ZeRO, stages 1, 2 and 3, on gloo or NCCL.

Weights, moments and sums of gradients are float32 whatever the forward pass computes in. DeepSpeed's own checkpoints
are pickles, which run code as they are read; here each rank writes its part as safetensors
(:mod:`carerl.backends.learners.fragments`).
"""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from carerl.backends.hashed import Write
from carerl.backends.learners.files import stored_weights
from carerl.backends.learners.fragments import MOMENTS, WEIGHT, Fragment, copied, fresh_optimizer, holds, stored
from carerl.backends.learners.layers import offload_activations, prepare_layers
from carerl.backends.learners.policy import Policy
from carerl.backends.learners.resting import free_cached
from carerl.backends.learners.starting import StartingModel, materialise
from carerl.backends.models import DTYPES
from carerl.backends.transfer.source import TensorMeta, WeightSource
from carerl.config.schema import LearnerConfig

BUCKET = 2**27  # values that are reduced, or gathered for a sync, at one time


class DeepSpeedShards:
    """One rank's part."""

    def __init__(self, start: StartingModel, config: LearnerConfig, device: torch.device):
        deepspeed = _library(device)
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.device = device
        self.stream_dtype = torch.float32
        self.hf_config = start.model.config
        self._stage = config.zero_stage
        prepare_layers(start.model, config)
        module = Policy(start.model, config.head_chunk_tokens, device, config.compile)
        settings = _settings(config, sum(p.numel() for p in module.parameters() if p.requires_grad))
        self._build(deepspeed, module, config)
        if config.activation_offload:
            offload_activations(module)
        with redirect_stdout(io.StringIO()):  # it prints how much memory it has
            self._engine, self._optimizer, _, _ = deepspeed.initialize(
                model=module,
                model_parameters=[parameter for parameter in module.parameters() if parameter.requires_grad],
                config=settings,
                dist_init_required=False,
            )
        self.policy: Any = _Entrance(self._engine)
        self._named: dict[str, Any] = {name.removeprefix("model."): p for name, p in module.named_parameters()}
        self._fill(start, module)

    def _build(self, deepspeed: Any, module: Policy, config: LearnerConfig) -> None:
        """Gives parameters their memory, in the dtype of the forward pass. In stage 3 each is cut into the ranks' parts
        before the next one is made, so that no rank holds them all."""
        compute = DTYPES[config.compute_dtype]
        where = "cpu" if config.cpu_offload else None

        def cut(parameter: nn.Parameter) -> None:
            holder = nn.ParameterList([parameter])
            deepspeed.zero.Init(module=holder, dtype=compute, remote_device=where, mem_efficient_linear=False)

        if self._stage == 3:
            materialise(module, self.device, cut, compute)
        else:
            materialise(module, self.device, dtype=compute)

    def rest(self) -> None:
        """Frees what torch keeps for later. DeepSpeed's own buffers, gradients among them, stay."""
        free_cached(self.device)

    def resume(self) -> None:
        """Does nothing: :meth:`rest` has moved nothing."""

    def close(self) -> None:
        """Breaks what would keep the model in memory for as long as the process lives.

        DeepSpeed's hooks on gradients refer to the engine, and torch holds them where Python's collector does not look:
        ``destroy`` takes them off. In stage 3 two lists of DeepSpeed's own, for all engines of a process, keep modules
        and the coordinator of their gathering: ``FWD_MODULE_STACK``, and a cache of what to release after a module.
        The cache cannot be reached, so what is in it is emptied.
        """
        self._engine.destroy()
        if self._stage == 3:
            from deepspeed.runtime.zero.parameter_offload import FWD_MODULE_STACK

            FWD_MODULE_STACK[:] = [module for module in FWD_MODULE_STACK if module is not self._engine.module]
            for emptied in (self._optimizer.parameter_offload.param_coordinator, *self._engine.module.modules()):
                vars(emptied).clear()

    # ---- an update ---------------------------------------------------------------------------------------------

    def backward(self, loss: Tensor, last: bool) -> None:
        """Adds a micro-batch's gradients. Stage 1 reduces them over ranks in the ``last`` one; stages 2 and 3 keep only
        a rank's part of them, so they reduce in each."""
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(loss, scale_wrt_gas=False)

    def step(self, lr: float) -> float:
        """Clips the gradient and takes an optimizer step, unless the gradient is not finite; returns its norm before
        clipping."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self._engine.step()
        return float(self._engine.get_global_grad_norm())

    def forget(self) -> float:
        """Clears the gradient, and leaves weights and moments as they are. Returns the gradient's norm.

        It is a step of DeepSpeed's in which the optimizer inside of it does nothing: what a step clears differs
        between the stages, and with bfloat16."""
        inside = self._optimizer.optimizer
        inside.step = lambda: None
        try:
            self._engine.step()
        finally:
            del inside.step  # the class's own is there again
        return float(self._engine.get_global_grad_norm())

    # ---- weights -----------------------------------------------------------------------------------------------

    def source(self, dtype: torch.dtype, trained_only: bool = False) -> WeightSource:
        """Returns all parameters, or those that are trained, whole, in ``dtype``."""
        return _Gathered(self._trained() if trained_only else self._named, dtype, self._stage)

    def _trained(self) -> dict[str, Any]:
        return {name: parameter for name, parameter in self._named.items() if parameter.requires_grad}

    @torch.no_grad()
    def _fill(self, start: StartingModel, module: Policy) -> None:
        """Gives every rank its part of each weight. Each travels whole, in the dtype of the file."""
        own = {fragment.name: fragment for fragment in self._fragments()}
        buffers = {name.removeprefix("model."): buffer for name, buffer in module.named_buffers()}
        self._drop_gathered()
        for name, dtype, whole in start.arriving(self.device):
            shape = tuple(buffers[name].shape) if name in buffers else _shape(self._named[name])
            arrived = torch.empty(shape, dtype=dtype, device=self.device) if whole is None else whole.contiguous()
            dist.broadcast(arrived, src=0)
            if name in buffers:
                buffers[name].copy_(arrived)
            elif not self._named[name].requires_grad:
                _place(self._named[name], arrived)
            elif name in own:
                _take(own[name], arrived)
        self._spread()

    def _fragments(self) -> Iterator[Fragment]:
        """Yields what this rank holds of each trained parameter in float32, and of its moments once a step was
        taken."""
        for name, parameter in self._trained().items():
            if self._stage == 3:
                group, offset, count = self._optimizer.grad_position[self._optimizer.get_param_id(parameter)]
                flat = self._optimizer.fp32_partitioned_groups_flat[group]
                begin = dist.get_rank() * count
                count = max(0, min(count, parameter.ds_numel - begin))  # the last parts are padded
            elif parameter._hp_mapping is not None:
                flat = self._flat()[parameter._hp_mapping.param_group_index]
                held = parameter._hp_mapping.hp_fragment_address
                offset, count, begin = held.start, held.numel, parameter._hp_mapping.lp_fragment_address.start
            else:
                continue
            if count:
                state = self._optimizer.optimizer.state.get(flat, {})
                values = {WEIGHT: flat, **{key: state[key] for key in MOMENTS if key in state}}
                yield Fragment(name, begin, {key: tensor.narrow(0, offset, count) for key, tensor in values.items()})

    def _flat(self) -> list[Tensor]:
        """Returns this rank's float32 weights, flattened, a tensor for each of the optimizer's groups."""
        for name in ("fp32_partitioned_groups_flat", "single_partition_of_fp32_groups", "fp32_groups_flat_partition"):
            if hasattr(self._optimizer, name):
                return list(getattr(self._optimizer, name))
        raise RuntimeError(f"{type(self._optimizer).__name__} is not an optimizer of ZeRO's that is known here")

    def _drop_gathered(self) -> None:
        """Frees small weights that stage 3 keeps gathered: they are about to change."""
        if self._stage == 3:
            self._optimizer._partition_all_parameters()

    def _spread(self) -> None:
        """Rounds the float32 weights into those that the forward pass uses. Collective."""
        if self._stage < 3:
            self._optimizer.update_lp_params()
            return
        for number in range(len(self._flat())):
            self._optimizer._reassign_or_swap_out_partitioned_parameters(number)
        if kept := self._optimizer.persistent_parameters:
            kept[0].all_gather(kept)

    # ---- checkpoints -------------------------------------------------------------------------------------------

    def save(self, directory: Path) -> Write:
        """Copies this rank's part of weights and moments to host memory; returns the function that writes it."""
        # A state is empty where no step was taken: DeepSpeed makes it when it looks for one.
        steps = {int(state["step"]) for state in self._optimizer.optimizer.state.values() if state} or {0}
        return copied(directory, self.rank, self._fragments(), steps.pop())

    @torch.no_grad()
    def load(self, directory: Path) -> str:
        """Restores what ``save`` wrote, also on another number of ranks and in another stage. Of a checkpoint of fsdp2
        takes the weights alone. Returns what a person should know, or ''."""
        self._drop_gathered()
        if not holds(directory):
            own = {fragment.name: fragment for fragment in self._fragments()}
            for name, whole in stored_weights(directory, {name: _shape(p) for name, p in self._trained().items()}):
                if name in own:
                    _take(own[name], whole)
            self._spread()
            return fresh_optimizer("fsdp2", "deepspeed")
        with stored(directory) as files:
            self._begin_state(files.step)
            for fragment in self._fragments():
                for kind, values_N in fragment.values.items():
                    files.fill(kind, fragment.name, fragment.start, values_N)
        self._spread()
        return ""

    def _begin_state(self, step: int) -> None:
        """Makes empty moments, as they are after ``step`` steps."""
        if not step:
            return
        for flat in self._flat():
            moments = {key: torch.zeros_like(flat) for key in MOMENTS}
            self._optimizer.optimizer.state[flat] = {"step": torch.tensor(float(step)), **moments}
        if self._stage < 3:
            self._optimizer._hp_optimizer_states_linked = False
            self._optimizer._lazy_init_hp_params_optimizer_state()


class _Entrance:
    """Passes calls to DeepSpeed's engine, and what is set to the module inside of it."""

    def __init__(self, engine: Any):
        object.__setattr__(self, "_engine", engine)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._engine(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine.module, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._engine.module, name, value)


class _Gathered:
    """Gathers the weights bucket by bucket. See :class:`~carerl.backends.transfer.source.WeightSource`."""

    def __init__(self, named: dict[str, Any], dtype: torch.dtype, stage: int):
        self._named, self._dtype, self._stage = named, dtype, stage

    def metadata(self) -> list[TensorMeta]:
        """Returns what will come, in order."""
        return [TensorMeta(name, self._dtype, _shape(parameter)) for name, parameter in self._named.items()]

    @torch.no_grad()
    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Yields (name, tensor) in that order. Collective."""
        import deepspeed
        from deepspeed.utils import safe_get_full_fp32_param

        for names in self._buckets():
            if self._rounded(names[0]):
                for name in names:
                    yield name, safe_get_full_fp32_param(self._named[name]).to(self._dtype)
                continue
            with deepspeed.zero.GatheredParameters([self._named[name] for name in names], enabled=self._stage == 3):
                for name in names:
                    yield name, self._named[name].detach().to(self._dtype)

    def _buckets(self) -> Iterator[list[str]]:
        names: list[str] = []
        held = 0
        for name, parameter in self._named.items():
            size = torch.Size(_shape(parameter)).numel()
            if names and (held + size > BUCKET or self._rounded(name) != self._rounded(names[0])):
                yield names
                names, held = [], 0
            names.append(name)
            held += size
        yield names

    def _rounded(self, name: str) -> bool:
        """Returns whether the forward pass has a weight rounded, and the optimizer has it as it is asked for."""
        parameter = self._named[name]
        return bool(parameter.requires_grad and self._dtype.itemsize > parameter.dtype.itemsize)


def _shape(parameter: Any) -> tuple[int, ...]:
    """Returns the whole shape of a parameter that stage 3 may have cut."""
    return tuple(getattr(parameter, "ds_shape", parameter.shape))


def _take(fragment: Fragment, whole: Tensor) -> None:
    """Copies this rank's stretch of a whole weight."""
    target_N = fragment.values[WEIGHT]
    target_N.copy_(whole.flatten()[fragment.start : fragment.start + target_N.numel()])


def _place(parameter: Any, whole: Tensor) -> None:
    """Copies a frozen weight, or in stage 3 this rank's part of it."""
    part_N = getattr(parameter, "ds_tensor", None)
    if part_N is None:
        parameter.copy_(whole)
        return
    mine_N = whole.flatten()[dist.get_rank() * part_N.numel() :][: part_N.numel()]
    part_N[: mine_N.numel()].copy_(mine_N)  # the last parts are padded


def _library(device: torch.device) -> Any:
    """Imports DeepSpeed for ranks that have met already, without its launcher, quietly. Nothing is compiled."""
    os.environ.setdefault("DS_ACCELERATOR", device.type)
    os.environ.setdefault("LOCAL_RANK", str(device.index or 0))  # a rank sees no GPU but its own
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")  # it uses older names
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # it would be compiled, and gloo does the same
    return deepspeed


def _settings(config: LearnerConfig, parameters: int) -> dict[str, Any]:
    """Returns DeepSpeed's own settings."""
    optimizer = config.optimizer
    offload = {"device": "cpu", "pin_memory": config.gpus_per_rank > 0}
    zero: dict[str, Any] = {
        "stage": config.zero_stage,
        "reduce_bucket_size": min(BUCKET, parameters),
        "allgather_bucket_size": BUCKET,
        "memory_efficient_linear": False,
    }
    if config.cpu_offload:
        zero["offload_optimizer"] = offload
        if config.zero_stage == 3:
            zero["offload_param"] = offload
    return {
        "train_micro_batch_size_per_gpu": 1,  # rows are counted elsewhere
        "gradient_accumulation_steps": 1,
        "gradient_clipping": optimizer.grad_clip,
        "steps_per_print": None,
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": config.compute_dtype == "bfloat16", "check_grad_overflow": True},
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
        "optimizer": {
            "type": "AdamW",
            "params": {
                "lr": optimizer.lr,
                "betas": list(optimizer.betas),
                "eps": optimizer.eps,
                "weight_decay": optimizer.weight_decay,
                "adam_w_mode": True,
                "torch_adam": True,  # DeepSpeed's own is compiled when it is first used
            },
        },
    }
