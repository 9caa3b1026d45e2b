"""Whether a model's directory holds all weights of its architecture, and numbers only.

Loaders draw what a checkpoint lacks at random and go on, each with other numbers. So names and shapes in the headers of
the files are compared with the architecture built without memory (``meta`` device), before anything starts and in every
process that loads: seconds, whatever the size. An architecture whose tensors the loader splits or merges (a mixture of
experts) is judged by what the loader reports.

NaN and infinities are in the numbers themselves: up to :data:`SCANNED` bytes are looked through at the start, more by
the actors once they have loaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carerl.backends.hub import remote_tensors
from carerl.config.stored_weights import check_kind, compare, no_model, refusal, stored_tensors, weight_files

SCANNED = 2 * 2**30  # bytes of weights: less than a second each GiB on two cores
NOT_FINITE = "retrain or download it; training with a rate that is too high ends so"


def check_weights(path: str, trust_remote_code: bool = False) -> list[str]:
    """Refuses a directory whose weights are not those of its ``config.json``: missing, under other names, of another
    shape, quantised, pickled, cut off. Returns what a person should know, a line each. Raises ConfigError."""
    check_kind(path)
    stored = stored_tensors(path)
    model = empty_model(path, trust_remote_code)
    if _converted(model):
        return []
    tied = dict(model.all_tied_weights_keys)
    unused = compare(path, stored, _needed(model), tied)
    for repeated, source in tied.items():
        if repeated in stored and not _same(path, repeated, source, stored[repeated].file, stored[source].file):
            reason = (
                f"config.json ties {repeated} to {source}, and its files hold two different tensors under these names"
            )
            raise refusal(path, reason, "write tie_word_embeddings: false into config.json if the model was trained so")
    return _left_out(path, unused)


def _needed(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _left_out(path: str, names: list[str]) -> list[str]:
    unused = [name for name in names if "rotary_emb" not in name]  # of old files: computed, and never loaded
    if not unused:
        return []
    listed = ", ".join(unused[:3]) + (" …" if len(unused) > 3 else "")
    return [f"{path}: {len(unused)} tensors are not part of the architecture and are left out: {listed}"]


def check_remote_weights(folder: str, name: str, revision: str, trust_remote_code: bool) -> list[str]:
    """Does the same for a hub's model of which ``folder`` has all but the weights, by the headers of the hub's own
    files. Where the hub does not answer nothing is checked. Raises ConfigError."""
    stored = remote_tensors(name, revision)
    model = empty_model(folder, trust_remote_code)
    if stored is None or _converted(model):
        return []
    return _left_out(name, compare(name, stored, _needed(model), dict(model.all_tied_weights_keys)))


def check_finite(path: str, most: int | None = SCANNED) -> None:
    """Refuses a directory of up to ``most`` bytes of weights (None: of any size) if one of them is NaN or infinite.
    Raises ConfigError."""
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
    """Returns what is wrong with the numbers of a tensor, or ''."""
    if not tensor.is_floating_point() or not tensor.numel():
        return ""
    if all(bool(torch.isfinite(end)) for end in torch.aminmax(tensor.detach())):
        return ""  # NaN is the least and the greatest of what it is among; a test of each value costs far more
    count = int((~torch.isfinite(tensor)).sum())
    what = "NaN" if bool(torch.isnan(tensor).any()) else "infinite values"
    return f"its weights hold {what}: {name}, {count:,} of {tensor.numel():,} values"


def empty_model(path: str, trust_remote_code: bool) -> Any:
    """Returns the model of a directory's ``config.json``, without memory for its weights. Raises ConfigError."""
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers raises many kinds
        raise no_model(path, error) from None


def _converted(model: Any) -> bool:
    """Whether the loader splits or merges tensors of this architecture, so that its files have other names."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter

    return any(isinstance(entry, WeightConverter) for entry in get_model_conversion_mapping(model, None, None))


def _same(path: str, one: str, other: str, one_file: str, other_file: str) -> bool:
    from safetensors import safe_open

    folder = Path(path).expanduser()
    with safe_open(folder / one_file, "pt") as first, safe_open(folder / other_file, "pt") as second:
        return torch.equal(first.get_tensor(one), second.get_tensor(other))
