"""Reads file names and the headers of safetensors files in a model's directory. No weight is read.

Learner, reference and engine read ``model.safetensors``, or the shards that ``model.safetensors.index.json`` names, and
nothing else: pickled weights (``.bin``, ``.pt``) can run code, quantised ones cannot be trained.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carerl.errors import ConfigError
from carerl.types import RunError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER = "adapter_config.json"  # of a directory that holds adapters, as peft writes it
POINTER = b"version https://git-lfs.github.com/spec/"
PLAIN = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}  # bytes of a value
MAX_HEADER = 100 * 2**20  # bytes, as the safetensors library has it
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
NO_WEIGHTS = ("training_args", "optimizer", "scheduler", "rng_state", "scaler")  # pickled files of trainers


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: its dtype as safetensors names it (F32, BF16 …), its shape, and the file's name."""

    dtype: str
    shape: tuple[int, ...]
    file: str


class UnusableModel(ConfigError, RunError):
    """A model that cannot be loaded, with the same words whether it is found before the start or by an actor."""

    exit_code = 2


def refusal(path: str, reason: str, remedy: str) -> UnusableModel:
    """Returns the error for a model's files."""
    return UnusableModel("model.path", path, reason, remedy)


def first_words(error: Exception) -> str:
    """Returns what a library's error says, on one line and not too long."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def no_model(path: str, error: Exception) -> UnusableModel:
    """Returns the error for a ``config.json`` that no model can be made of."""
    reason = f"no model can be built from its config.json: {first_words(error)}"
    return refusal(path, reason, "give a decoder-only language model that transformers knows")


def no_model_there(path: str) -> Iterator[ConfigError]:
    """Yields what keeps a directory from being a model at all, before its lengths are compared with anything."""
    try:
        check_kind(path)
    except ConfigError as error:
        yield error
        return
    if not os.path.isfile(Path(path).expanduser() / "config.json"):
        remedy = "give a Hugging Face model directory (config.json, safetensors, tokenizer)"
        yield refusal(path, "the directory has no config.json", remedy)


def check_pointers(path: str, patterns: Sequence[str]) -> None:
    """Refuses a directory in which a file of such a name is what Git LFS leaves in its place. Raises ConfigError."""
    for file in (file for pattern in patterns for file in Path(path).expanduser().glob(pattern)):
        _refuse_pointer(path, file)


def check_kind(path: str) -> None:
    """Refuses a directory that holds something other than a language model with plain weights, as its file names and
    ``config.json`` say it: an adapter, GGUF files, quantised weights, a model for another purpose. Raises
    ConfigError."""
    folder = Path(path).expanduser()
    if (folder / ADAPTER).is_file():
        base = _read(folder / ADAPTER).get("base_model_name_or_path") or "its base model"
        raise refusal(path, f"it holds an adapter ({ADAPTER}), which is only a change to {base}", by_peft(base))
    if not (folder / "config.json").is_file():
        if gguf := sorted(file.name for file in folder.glob("*.gguf")):
            reason = f"it holds a GGUF file ({gguf[0]}), which cannot be trained or served here"
            raise refusal(path, reason, "give the model's directory with config.json and safetensors files")
        return  # what is missing is told by whoever reads it
    stated = _read(folder / "config.json")
    quantised = stated.get("quantization_config")
    if quantised:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise refusal(
            path,
            f"its weights are quantised (quantization_config in config.json: {method or 'of an unnamed kind'})",
            "give the model that they were made from, in float32, bfloat16 or float16",
        )
    names = stated.get("architectures")
    for name in names if isinstance(names, list) else []:
        if isinstance(name, str) and "For" in name and "ForCausalLM" not in name:
            reason = f"config.json says architectures: {name}, which is no model that writes text"
            raise refusal(path, reason, "give a decoder-only language model (…ForCausalLM)")


def by_peft(base: str) -> str:
    """Returns how a person puts adapters and their base together, as a remedy."""
    remedy = f"merge it into {base} first: peft's AutoPeftModelForCausalLM.from_pretrained(DIR).merge_and_unload()"
    return remedy + ".save_pretrained(NEW), and put the tokenizer beside it"


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def has_weights(folder: Path) -> bool:
    """Returns whether a directory holds weights of any format."""
    found = any(path.suffix in (".safetensors", ".gguf") for path in folder.glob("*"))
    return found or (folder / INDEX).is_file() or bool(_pickled(folder))


def _pickled(folder: Path) -> list[str]:
    names = sorted(file.name for file in folder.glob("*") if file.suffix in PICKLED)
    return [name for name in names if not name.startswith(NO_WEIGHTS)]


def weight_files(path: str) -> list[Path]:
    """Returns the files that the weights are read from. Raises ConfigError where there are none, where one is missing,
    and where libraries would not agree on which they are."""
    folder = Path(path).expanduser()
    others = sorted(file.name for file in folder.glob("*.safetensors"))
    if (folder / INDEX).is_file():
        names = _shards(path, folder / INDEX)
        if missing := [name for name in names if not (folder / name).is_file()]:
            reason = f"{len(missing)} of the {len(names)} files that {INDEX} names are not there: {_few(missing)}"
            raise refusal(path, reason, "copy or download the missing files")
        if SINGLE in others and SINGLE not in names:
            reason = (
                f"it holds both {SINGLE} and {INDEX} with other files: libraries do not agree on which is the model"
            )
            raise refusal(path, reason, "move one of them away")
        return [folder / name for name in names]
    if SINGLE not in others:
        raise refusal(path, *_no_weights(folder, others))
    if beside := [name for name in others if name != SINGLE]:
        reason = f"beside {SINGLE} there is {_few(beside)}: vLLM would read it into the model as well"
        raise refusal(path, reason, "move it away")
    return [folder / SINGLE]


def whole(path: str) -> bool:
    """Returns whether every file of the weights is there."""
    try:
        return bool(weight_files(path))
    except UnusableModel:
        return False


def _shards(path: str, index: Path) -> list[str]:
    _refuse_pointer(path, index)
    found = _read(index).get("weight_map")
    if not isinstance(found, dict) or not found or not all(isinstance(name, str) for name in found.values()):
        raise refusal(path, f"{INDEX} cannot be read: it names no files", "copy or save the model again")
    names = sorted(set(found.values()))
    if bad := [name for name in names if Path(name).name != name]:
        raise refusal(path, f"{INDEX} names files outside of the directory: {_few(bad)}", "save the model again")
    return names


def _no_weights(folder: Path, others: list[str]) -> tuple[str, str]:
    if others:
        if any("-of-" in name for name in others):
            return (
                f"its weights are in several files ({_few(others)}), and {INDEX} is missing",
                "copy the index as well",
            )
        return f"it has no {SINGLE}, but {_few(others)}", f"rename the file to {SINGLE} if it is the model"
    if pickled := _pickled(folder):
        return (
            f"its weights are pickled ({_few(pickled)}), which can run code as they are read: only safetensors are",
            "convert them: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(NEW), where you trust the file",
        )
    if gguf := sorted(file.name for file in folder.glob("*.gguf")):
        return f"its weights are in a GGUF file ({gguf[0]})", "give the model's directory with safetensors files"
    return f"it has no weights: no {SINGLE} and no {INDEX}", "copy or download the weights too, or give another model"


def stored_tensors(path: str) -> dict[str, Stored]:
    """Returns the tensors of a model's directory by their names, from the headers of its files. Raises ConfigError for
    files that are missing, cut off or broken."""
    found: dict[str, Stored] = {}
    for file in weight_files(path):
        for name, stored in _header(path, file):
            if name in found:
                raise refusal(path, f"{name} is in {found[name].file} and in {file.name}", "save the model again")
            found[name] = stored
    return found


def _refuse_pointer(path: str, file: Path) -> None:
    with file.open("rb") as opened:
        if opened.read(len(POINTER)) == POINTER:
            reason = f"{file.name} is a Git LFS pointer, and not the file itself"
            raise refusal(path, reason, "fetch the files: git lfs pull, in that directory")


def _header(path: str, file: Path) -> Iterator[tuple[str, Stored]]:
    try:
        _refuse_pointer(path, file)
        size = file.stat().st_size
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if not 2 <= length <= min(MAX_HEADER, size - 8):
                raise ValueError("it is cut off or no safetensors file")
            header = json.loads(opened.read(length))
            tensors = {name: facts for name, facts in header.items() if name != "__metadata__"}
            end = 8 + length + max((int(facts["data_offsets"][1]) for facts in tensors.values()), default=0)
            if end != size:
                raise ValueError(f"it has {size:,} bytes, and its header tells of {end:,}")
            for name, facts in tensors.items():
                yield name, _stored(name, facts, file.name)
    except UnusableModel:  # a pointer, which is told in words of its own
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError) as error:
        reason = f"{file.name} cannot be read: {error}"
        raise refusal(path, reason, "copy or download it again") from None


def _stored(name: str, facts: dict[str, Any], file: str) -> Stored:
    shape, dtype = tuple(int(n) for n in facts["shape"]), str(facts["dtype"])
    begin, end = facts["data_offsets"]
    if dtype in PLAIN and end - begin != math.prod(shape) * PLAIN[dtype]:
        raise ValueError(f"{name} has {end - begin:,} bytes, and {shape} {dtype} needs another number")
    return Stored(dtype, shape, file)


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" … ({len(names)} in all)" if len(names) > 3 else "")


def compare(
    path: str, stored: dict[str, Stored], needed: dict[str, tuple[int, ...]], tied: dict[str, str]
) -> list[str]:
    """Compares what a checkpoint holds with what the architecture needs. ``tied``: names that repeat another one, and
    need not be there. Returns the names that nothing uses. Raises ConfigError for a tensor that is missing, has another
    name, another shape, or a dtype that is no plain float."""
    missing = [name for name in needed if name not in stored and name not in tied]
    unused = sorted(name for name in stored if name not in needed)
    if missing:
        raise refusal(path, *_missing(missing, unused, len(needed)))
    wrong = [name for name in needed if name in stored and stored[name].shape != tuple(needed[name])]
    if wrong:
        first = wrong[0]
        shapes = f"{first} is {list(stored[first].shape)} in {stored[first].file}, and by config.json it is "
        more = f"; {len(wrong)} tensors in all have another shape" if len(wrong) > 1 else ""
        raise refusal(
            path,
            f"weights and config.json do not go together: {shapes}{list(needed[first])}{more}",
            "put back the config.json that the weights were saved with",
        )
    odd = [name for name in needed if name in stored and stored[name].dtype not in PLAIN]
    if odd:
        reason = f"its weights are {stored[odd[0]].dtype} ({_few(odd)}), which is quantised or no number to train with"
        raise refusal(path, reason, "give the model in float32, bfloat16 or float16")
    return unused


def _missing(missing: list[str], unused: list[str], needed: int) -> tuple[str, str]:
    reason = f"{len(missing)} of the {needed} tensors of its architecture are missing in its files: {_few(missing)}"
    remedy = "give the whole checkpoint; what is missing would be drawn at random"
    if found := _other_name(missing, unused):
        name, held = found
        reason += f"; there is {held} where {name} should be"
        remedy = (
            "save the model itself, without what it was wrapped in (model.module, a compiled or PEFT model), so that "
        )
        remedy += "its tensors have their own names"
    elif unused:
        reason += f"; nothing uses {_few(unused)}"
    return reason, remedy


def _other_name(missing: list[str], unused: list[str]) -> tuple[str, str] | None:
    """Finds a missing name and the stored one that differs from it by a prefix."""
    for name in missing:
        for held in unused:
            if held.endswith("." + name) or name.endswith("." + held):
                return name, held
    return None
