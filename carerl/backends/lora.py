"""Low-rank adapters (LoRA, arXiv 2106.09685) on a model of Hugging Face's, by the peft library.

An adapted linear layer computes W·x + (alpha / rank) · B·(A·x). W and everything else keep their values. B begins at
zero, so that training begins with the model as it is in its files.

A tensor has three names:

============ ================================================= ======================================================
where        a weight that stays                               an adapter
============ ================================================= ======================================================
in a module  ``…q_proj.base_layer.weight``                     ``…q_proj.lora_A.default.weight``
on its way   ``…q_proj.weight``, as in the model's files       ``…q_proj.lora_A.weight``
peft's files                                                   ``base_model.model.`` + the name on its way
============ ================================================= ======================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from carerl.backends.hashed import Written, hashed
from carerl.backends.models import model_on_meta
from carerl.backends.transfer.source import TensorMeta, WeightSource
from carerl.backends.weight_files import write_safetensors
from carerl.config.schema import LoraConfig
from carerl.config.stored_weights import ADAPTER, by_peft, refusal, weight_files

A, B = ".lora_A.default.weight", ".lora_B.default.weight"  # ends of an adapter's name in a module
PREFIX = "base_model.model."  # of an adapter's name in peft's files
FILE = "adapter_model.safetensors"
# peft's settings that change more than W + (alpha / r) · B·A says
OTHER_SUMS = (
    "use_dora", "use_rslora", "use_qalora", "fan_in_fan_out", "lora_bias", "modules_to_save", "rank_pattern",
    "alpha_pattern", "layer_replication", "target_parameters", "trainable_token_indices", "alora_invocation_tokens",
)  # fmt: skip
DRAWN = ("gaussian", "eva", "orthogonal")  # first values by name that leave W as it is in the model's files


def adapt(model: Any, lora: LoraConfig) -> None:
    """Gives the chosen layers of a model adapters, in place: those of a model on the meta device are there too, others
    are zero. All other parameters are frozen from then on."""
    from peft import inject_adapter_in_model

    on_meta = next(model.parameters()).is_meta
    inject_adapter_in_model(_peft_config(lora), model, low_cpu_mem_usage=on_meta)
    for name, parameter in model.named_parameters():
        if is_adapter(name) and not on_meta:
            nn.init.zeros_(parameter)


def _peft_config(lora: LoraConfig, base: str = "", revision: str = "") -> Any:
    from peft import LoraConfig as PeftConfig

    return PeftConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=base or None,
        revision=revision or None,
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=list(lora.targets),
        init_lora_weights=False,  # what is drawn here is drawn elsewhere, from the run's seed
    )


@contextmanager
def adapters_off(module: nn.Module) -> Iterator[None]:
    """Has the layers of a module compute without their adapters, as the model did before it had any.

    peft's own switch also takes the adapters' gradients away, which a sharded module must not see.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [layer for layer in module.modules() if isinstance(layer, BaseTunerLayer)]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def is_adapter(name: str) -> bool:
    """Returns whether a parameter of a module is an adapter's."""
    return name.endswith((A, B))


def on_its_way(name: str) -> str:
    """Returns the name under which a module's parameter is sent and stored."""
    return name.replace(".default.weight", ".weight").replace(".base_layer.", ".")


def adapter_shapes(lora: LoraConfig, path: str, trust_remote_code: bool = False) -> dict[str, tuple[int, ...]]:
    """Returns names and shapes of the adapters of a model directory, as they are sent. No weight is read or made."""
    model = model_on_meta(path, trust_remote_code)
    adapt(model, lora)
    return {on_its_way(name): tuple(p.shape) for name, p in model.named_parameters() if is_adapter(name)}


class Adapters:
    """Gives the adapters of a learner alone. See :class:`~carerl.backends.transfer.source.WeightSource`.

    ``source``: gives what is trained, under the module's names."""

    def __init__(self, source: WeightSource):
        self._source = source

    def metadata(self) -> list[TensorMeta]:
        """Returns what will come, in order."""
        return [TensorMeta(on_its_way(meta.name), meta.dtype, meta.shape) for meta in self._source.metadata()]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Yields (name, tensor) in that order. Collective."""
        for name, tensor in self._source:
            yield on_its_way(name), tensor


class Merged:
    """Gives the whole weights of an adapted model: W + (alpha / rank) · B·A where there are adapters. See
    :class:`~carerl.backends.transfer.source.WeightSource`.

    ``source``: gives everything under the module's names, at least as wide as the sums are to be exact. ``dtype``: what
    the sums are rounded to."""

    def __init__(self, source: WeightSource, lora: LoraConfig, dtype: torch.dtype):
        self._source, self._scale, self._dtype = source, lora.alpha / lora.rank, dtype

    def metadata(self) -> list[TensorMeta]:
        """Returns what will come, in order: a merged weight comes in the place of its B."""
        metas = {meta.name: meta for meta in self._source.metadata()}
        order = [_weight_of(name) if name.endswith(B) else name for name in metas if not _waits(name)]
        return [TensorMeta(on_its_way(name), self._dtype, metas[name].shape) for name in order]

    @torch.no_grad()
    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Yields (name, tensor) in that order. Collective."""
        waiting: dict[str, Tensor] = {}
        for name, tensor in self._source:
            if _waits(name):
                waiting[name] = tensor
                continue
            if name.endswith(B):
                a, name = waiting.pop(name.removesuffix(B) + A), _weight_of(name)
                tensor = _sum(waiting.pop(name), a, tensor, self._scale)
            yield on_its_way(name), tensor.to(self._dtype)


def _sum(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Returns W + scale · B·A."""
    return weight + scale * (b @ a)


def _waits(name: str) -> bool:
    """Returns whether a tensor is kept until the B of its layer comes."""
    return name.endswith((A, ".base_layer.weight"))


def _weight_of(b_name: str) -> str:
    """Returns the name of the weight that a B belongs to."""
    return b_name.removesuffix(B) + ".base_layer.weight"


def save_adapters(
    directory: Path, lora: LoraConfig, base: tuple[str, str], adapters: Mapping[str, Tensor], tokenizer: Any
) -> dict[str, Written]:
    """Writes adapters, under the names on their way, and the tokenizer as a directory that peft loads on top of the
    model ``base``: its directory or hub id, and its revision there or ''. Returns the file of the weights, by its path;
    it is on the disk then."""
    directory.mkdir(parents=True, exist_ok=True)
    _peft_config(lora, *base).save_pretrained(directory)
    if tokenizer is not None:
        tokenizer.save_pretrained(directory)
    written: dict[str, Written] = {}
    with hashed(directory / FILE, written) as file:
        write_safetensors(file, {PREFIX + name: tensor for name, tensor in adapters.items()}, {"format": "pt"})
    return written


@dataclass(frozen=True)
class StoredAdapters:
    """Holds what a directory of adapters says of them. ``base``: the model that they are for, a directory or a hub id;
    ``revision``: of that model on the hub, or ''; ``scale``: what B·A is multiplied by."""

    base: str
    revision: str
    scale: float


def stored_adapters(path: str) -> StoredAdapters:
    """Reads the settings of a directory of adapters. Raises ConfigError for those of another kind than are trained
    here: their product would not be all that they add."""
    try:
        stated = json.loads((Path(path) / ADAPTER).read_text(encoding="utf-8"))
        base, scale = str(stated["base_model_name_or_path"] or ""), float(stated["lora_alpha"]) / int(stated["r"])
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        reason = f"{ADAPTER} does not say what the adapters are: {type(error).__name__}: {error}"
        raise refusal(path, reason, "copy or save the adapters again") from None
    odd = [f"{name} = {stated[name]}" for name in OTHER_SUMS if stated.get(name)]
    odd += [f"bias = {stated['bias']}"] if stated.get("bias", "none") != "none" else []
    first = stated.get("init_lora_weights")
    odd += [f"init_lora_weights = {first}"] if isinstance(first, str) and first not in DRAWN else []
    if stated.get("peft_type") != "LORA" or odd:
        reason = f"{ADAPTER} says {', '.join(odd) or 'peft_type = ' + str(stated.get('peft_type'))}"
        raise refusal(path, f"{reason}, and only plain LoRA adapters are merged here", by_peft(base or "its base"))
    if not base:
        reason = f"{ADAPTER} does not name the model that the adapters are for"
        raise refusal(path, reason, f"write it there, as base_model_name_or_path, or {by_peft('its base')}")
    return StoredAdapters(base, str(stated.get("revision") or ""), scale)


@torch.no_grad()
def merged_files(path: str, base: str, scale: float, dtype: torch.dtype) -> dict[str, Tensor]:
    """Returns the whole weights that a directory of adapters stands for on a model's directory ``base``, in ``dtype``,
    as :class:`Merged` gives them: the model's own are rounded to ``dtype`` first, as a learner keeps them. Raises
    ConfigError."""
    try:
        with safe_open(Path(path) / FILE, "pt") as opened:
            adapters = {name.removeprefix(PREFIX): opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise refusal(path, f"{FILE} cannot be read: {error}", "copy or save the adapters again") from None
    whole: dict[str, Tensor] = {}
    for file in weight_files(base):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                weight, layer = opened.get_tensor(name).to(dtype), name.removesuffix(".weight")
                a, b = (adapters.pop(f"{layer}.lora_{half}.weight", None) for half in "AB")
                if a is not None and b is not None:
                    wide = torch.promote_types(dtype, torch.float32)
                    if (len(b), *a.shape[1:]) != weight.shape or len(a) != b.shape[-1]:
                        reason = f"B · A is {list(b.shape)} · {list(a.shape)} and {name} is {list(weight.shape)}"
                        raise refusal(path, reason, f"give the adapters' own base; {ADAPTER} names {base}")
                    weight = _sum(weight.to(wide), a.to(wide), b.to(wide), scale).to(dtype)
                elif a is not None or b is not None:
                    raise refusal(path, f"{FILE} has only one half for {name}", "copy or save the adapters again")
                whole[name] = weight
    if adapters:
        reason = f"{FILE} has {next(iter(adapters))}, which no weight of {base} goes with"
        raise refusal(path, reason, by_peft(base))
    return whole
