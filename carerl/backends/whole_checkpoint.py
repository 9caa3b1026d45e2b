"""Refuses a model directory that lacks weights of its architecture, or has weights that are not finite.

Loaders draw missing weights at random and carry on, each process with other numbers. So names and shapes in the headers
of the files are compared with the architecture, built without memory (``meta`` device). This is done before anything
starts and in every process that loads; it takes seconds, whatever the size. Some loaders split or merge tensors of an
architecture (a mixture of experts); there the loader's own report decides.

NaN and infinities need a look at the numbers themselves. Up to :data:`SCANNED` bytes are read at the start; larger
models are checked by the actors after loading.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from carerl.backends.hub import remote_tensors
from carerl.config.stored_weights import check_kind, compare, no_model, refusal, stored_tensors, weight_files

SCANNED = 2 * 2**30  # bytes of weights: less than a second each GiB on two cores
NOT_FINITE = "train or download it again; a learning rate that is too high can cause this"


def check_weights(path: str, trust_remote_code: bool = False) -> list[str]:
    """Refuses a directory whose weights do not match its ``config.json``: missing, under other names, of another shape,
    quantised, pickled, cut off. Returns warnings, a line each. Raises ConfigError."""
    check_kind(path)
    stored = stored_tensors(path)
    model = empty_model(path, trust_remote_code)
    if converted_by_loader(model):
        return []
    tied = dict(model.all_tied_weights_keys)
    unused = compare(path, stored, _needed(model), tied)
    for repeated, source in tied.items():
        if repeated in stored and not _same(path, repeated, source, stored[repeated].file, stored[source].file):
            reason = (
                f"config.json ties {repeated} to {source}, but its files hold two different tensors under these names"
            )
            raise refusal(path, reason, "write tie_word_embeddings: false into config.json if the model was trained so")
    return _left_out(path, unused)


def _needed(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _left_out(path: str, names: list[str]) -> list[str]:
    unused = [name for name in names if "rotary_emb" not in name]  # in old files: it is computed and never loaded
    if not unused:
        return []
    listed = ", ".join(unused[:3]) + (" …" if len(unused) > 3 else "")
    return [f"{path}: {len(unused)} tensors are not part of the architecture and are left out: {listed}"]


def check_remote_weights(folder: str, name: str, revision: str, trust_remote_code: bool) -> list[str]:
    """Checks a hub's model by the headers of the hub's own files; ``folder`` has everything but the weights.

    Nothing is checked if the hub does not answer. Raises ConfigError.
    """
    stored = remote_tensors(name, revision)
    model = empty_model(folder, trust_remote_code)
    if stored is None or converted_by_loader(model):
        return []
    return _left_out(name, compare(name, stored, _needed(model), dict(model.all_tied_weights_keys)))


def check_finite(path: str, most: int | None = SCANNED) -> None:
    """Refuses a directory with a weight that is NaN or infinite. Raises ConfigError.

    ``most``: a directory with more bytes of weights is not read; None reads any.
    """
    from safetensors import safe_open

    files = weight_files(path)
    if most is not None and sum(file.stat().st_size for file in files) > most:
        return
    for file in files:
        with safe_open(file, "pt") as opened:
            refuse_not_finite(path, ((name, opened.get_tensor(name)) for name in opened.keys()))  # noqa: SIM118


def refuse_not_finite(path: str, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Raises ConfigError naming the first tensor with a value that is NaN or infinite."""
    for name, tensor in tensors:
        if fault := not_finite(name, tensor):
            raise refusal(path, fault, NOT_FINITE)


def not_finite(name: str, tensor: Tensor) -> str:
    """Says what is wrong with the numbers of a tensor; '' if nothing is."""
    if not tensor.is_floating_point() or not tensor.numel():
        return ""
    if all(bool(torch.isfinite(end)) for end in torch.aminmax(tensor.detach())):
        return ""  # a NaN would be both minimum and maximum; a test of each value costs far more
    count = int((~torch.isfinite(tensor)).sum())
    what = "NaN" if bool(torch.isnan(tensor).any()) else "infinite values"
    return f"its weights hold {what}: {name}, {count:,} of {tensor.numel():,} values"


def empty_model(path: str, trust_remote_code: bool) -> Any:
    """Returns the model of a directory's ``config.json``, float32, without memory for its parameters. Its buffers are
    as its own code makes them. Raises ConfigError."""
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
        with _without_memory():
            return AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises many kinds
        raise no_model(path, error) from None


@contextmanager
def _without_memory() -> Iterator[None]:
    """Puts parameters that modules register meanwhile on the meta device. Buffers stay real: rotary frequencies and the
    like are in no file, so whoever trains the model needs them."""
    usual = nn.Module.register_parameter

    def register(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:  # one that is tied comes again, and must stay the same
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        usual(module, name, parameter)

    nn.Module.register_parameter = register  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = usual  # type: ignore[method-assign]


def converted_by_loader(model: Any) -> bool:
    """Returns True if the loader splits or merges tensors of this architecture, so that its files have other names."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter

    return any(isinstance(entry, WeightConverter) for entry in get_model_conversion_mapping(model, None, None))


def _same(path: str, one: str, other: str, one_file: str, other_file: str) -> bool:
    from safetensors import safe_open

    folder = Path(path).expanduser()
    with safe_open(folder / one_file, "pt") as first, safe_open(folder / other_file, "pt") as second:
        return torch.equal(first.get_tensor(one), second.get_tensor(other))
