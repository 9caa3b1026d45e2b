"""The whole model that a directory of adapters stands for: its base with the adapters' products added.

Any engine loads it like another model. It is made once, as a run exports its model, and stays until somebody removes
it. ``carerl_merged.json`` in it says what it was made of: of anything else it is made again.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from carerl.backends.hub import BESIDE_WEIGHTS
from carerl.backends.lora import FILE, StoredAdapters, merged_files, stored_adapters
from carerl.backends.models import DTYPES
from carerl.backends.weight_files import write_weights
from carerl.config.check.places import check_writable
from carerl.config.named_models import NAMED
from carerl.config.shapes import looks_local, read_model_json, stored_dtype
from carerl.config.stored_weights import ADAPTER, INDEX, check_kind, refusal, weight_files
from carerl.controller.models import starting_weights
from carerl.controller.models.base_model import fetch_model
from carerl.controller.models.cache import put_in_place
from carerl.errors import ConfigError
from carerl.runs.files import CHECKSUMS, read_json, sha256

RECORD = "carerl_merged.json"
LEFT_OUT = (INDEX, CHECKSUMS, "carerl_base.json")  # of the base: they tell of its own weights
OF_TOKENIZER = ("tokenizer", "special_tokens", "added_tokens", "chat_template", "vocab", "merges")  # names begin so


def merged_model(adapters: str, place: Path, dtype: str = "") -> str:
    """Puts a directory of adapters and their base together in ``place``, in ``dtype`` or else the base's own, unless it
    is there already. Returns ``place``. Raises ConfigError."""
    stated = stored_adapters(adapters)
    if not (Path(adapters) / FILE).is_file():
        raise refusal(adapters, f"it has {ADAPTER} and no {FILE}", "copy or save the adapters again")
    base = _base(adapters, stated, place.parents[1])
    dtype = dtype or stored_dtype(base)
    sums = {name: sha256(Path(adapters) / name) for name in (ADAPTER, FILE)}
    made_of = {**sums, "base": starting_weights.identity(base), "dtype": dtype}
    if read_json(place / RECORD) == made_of:
        return str(place)
    if place.exists() and not (place / RECORD).is_file():
        reason = f"it holds adapters, which are put together with their base in {place}, and something else is there"
        raise refusal(adapters, reason, f"move it away; or write model={place} if that is the model you mean")
    size = sum(file.stat().st_size for file in weight_files(base))  # twice that, of a bfloat16 model in float32
    try:
        check_writable("model.path", place, 2 * size / 2**20, "the model that the adapters and their base make")
    except ConfigError as error:
        remedy = "make room, or copy the adapters to a directory that can be written to"
        raise refusal(adapters, error.reason, remedy) from None
    print(f"{adapters} holds adapters: with {base} they are put together in {place}", file=sys.stderr, flush=True)
    partial = place.with_name(f".{place.name}.{os.getpid()}.partial")
    try:
        _write(partial, adapters, base, stated.scale, dtype)
        (partial / RECORD).write_text(json.dumps(made_of, indent=2) + "\n")
        shutil.rmtree(place, ignore_errors=True)  # of other adapters, or of another base
        put_in_place(partial, place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return str(place)


def _base(adapters: str, stated: StoredAdapters, run: Path) -> str:
    """Returns the directory of the model that adapters are for. Raises ConfigError for one that is not there, or no
    longer what ``run`` began with, if that is a run."""
    if stated.base in NAMED or not looks_local(stated.base):
        return fetch_model(f"{stated.base}@{stated.revision}" if stated.revision else stated.base)
    base = Path(stated.base).expanduser()
    if not (base / "config.json").is_file():
        reason = f"it holds adapters on {stated.base}, and there is no model there"
        remedy = f"put the model there, or copy the adapters and name its place in {ADAPTER}: base_model_name_or_path"
        raise refusal(adapters, reason, remedy)
    check_kind(str(base))
    if starting_weights.differs(run, str(base)):
        reason = f"it holds adapters on {stated.base}, whose weights are not those that the run started from"
        raise refusal(adapters, reason, "put back the model that was there")
    return str(base)


def _write(target: Path, adapters: str, base: str, scale: float, dtype: str) -> None:
    """Writes the model's files: what is beside the base's weights, the tokenizer that came with the adapters, and the
    sums."""
    target.mkdir(parents=True)
    beside = [file for folder in (base, adapters) for pattern in BESIDE_WEIGHTS for file in Path(folder).glob(pattern)]
    for file in beside:
        if file.name.startswith(OF_TOKENIZER) or (file.parent == Path(base) and file.name not in LEFT_OUT):
            shutil.copyfile(file, target / file.name)
    config = {name: value for name, value in read_model_json(base, "config.json").items() if name != "torch_dtype"}
    (target / "config.json").write_text(json.dumps({**config, "dtype": dtype}, indent=2) + "\n")
    write_weights(target, merged_files(adapters, base, scale, DTYPES[dtype]))
