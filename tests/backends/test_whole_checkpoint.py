"""Model directories with a fault each: refused by their headers, and with the same words by whoever loads them.

vLLM with such directories: test_engines.py. Whole commands: e2e/test_commands.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from carerl.backends import models, whole_checkpoint
from carerl.backends.engines.hf import HFEngine
from carerl.backends.models import load_model
from carerl.backends.whole_checkpoint import check_finite, check_weights
from carerl.config.check.at_hand import check_model_dir
from carerl.config.load import load
from carerl.config.stored_weights import INDEX
from carerl.errors import ConfigError
from carerl.types import RunError
from tests.backends.model_directories import Q_PROJ, WEIGHTS, configured, renamed, replaced, reweighted, sound

INVERSE = "model.layers.0.self_attn.rotary_emb.inv_freq"  # in old files
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n"


def without(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name not in names}


def prefixed(tensors: dict[str, Any]) -> dict[str, Any]:
    return {f"module.{name}": tensor for name, tensor in tensors.items()}


def unprefixed(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("model."): tensor for name, tensor in tensors.items()}


def as_dtype(dtype: torch.dtype) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda tensors: {name: tensor.to(dtype) for name, tensor in tensors.items()}


def spoilt(value: float) -> Callable[[dict[str, Any]], None]:
    def change(tensors: dict[str, Any]) -> None:
        tensors[Q_PROJ][0, :2] = value

    return change


def another_head(tensors: dict[str, Any]) -> None:
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1


def pickled(place: Path, name: str = "pytorch_model.bin") -> Path:
    torch.save(load_file(place / WEIGHTS), place / name)
    (place / WEIGHTS).unlink()
    return place


def gone(place: Path, *names: str) -> Path:
    for name in names:
        (place / name).unlink()
    return place


def adapter(place: Path) -> Path:
    return replaced(place, "adapter_config.json", b'{"base_model_name_or_path": "owner/name"}')


SHARD = "model-00002-of-00004.safetensors"
FAULTS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a tensor": (
        lambda p: reweighted(sound(p), without(Q_PROJ)),
        f"1 of the 25 tensors of its architecture are missing in its files: {Q_PROJ}",
    ),
    "a norm": (lambda p: reweighted(sound(p), without("model.norm.weight")), "missing in its files: model.norm.weight"),
    "a layer": (lambda p: configured(sound(p), num_hidden_layers=3, layer_types=None), "11 of the 36 tensors"),
    "the head": (
        lambda p: reweighted(sound(p, "llama", tie=False), without("lm_head.weight")),
        "missing in its files: lm_head.weight",
    ),
    "the embedding": (
        lambda p: reweighted(sound(p, "llama", tie=False), without("model.embed_tokens.weight")),
        "model.embed_tokens.weight",
    ),
    "biases": (
        lambda p: reweighted(sound(p, "llama", attention_bias=True), without("model.layers.1.self_attn.k_proj.bias")),
        "self_attn.k_proj.bias",
    ),
    "a wrapper's names": (
        lambda p: reweighted(sound(p), prefixed),
        "there is module.model.embed_tokens.weight where model.embed_tokens.weight should be",
    ),
    "a bare model's names": (
        lambda p: reweighted(sound(p), unprefixed),
        "there is embed_tokens.weight where model.embed_tokens.weight should be",
    ),
    "no weights": (lambda p: gone(sound(p), WEIGHTS), "it has no weights"),
    "pickled": (lambda p: pickled(sound(p)), "its weights are pickled (pytorch_model.bin)"),
    "pickled .pth": (
        lambda p: pickled(sound(p), "consolidated.00.pth"),
        "its weights are pickled (consolidated.00.pth)",
    ),
    "a trainer's rest": (lambda p: replaced(gone(sound(p), WEIGHTS), "training_args.bin", b"x"), "it has no weights"),
    "a shard is missing": (
        lambda p: gone(sound(p, shard="100KB"), SHARD),
        f"1 of the 4 files that {INDEX} names are not there: {SHARD}",
    ),
    "the index is missing": (lambda p: gone(sound(p, shard="100KB"), INDEX), "index.json is missing"),
    "the index is no JSON": (lambda p: replaced(sound(p, shard="100KB"), INDEX, b"{"), f"{INDEX} cannot be read"),
    "the index leads away": (
        lambda p: replaced(sound(p), INDEX, b'{"weight_map": {"a": "../other.safetensors"}}'),
        "outside of the directory",
    ),
    "index and single file": (lambda p: replaced(sound(p, shard="100KB"), WEIGHTS, b"x"), "libraries do not agree"),
    "a shard is a pointer": (
        lambda p: replaced(sound(p, shard="100KB"), SHARD, LFS),
        f"{SHARD} is a Git LFS pointer",
    ),
    "the weights are a pointer": (
        lambda p: replaced(sound(p), WEIGHTS, LFS),
        f"{WEIGHTS} is a Git LFS pointer",
    ),
    "config.json is a pointer": (lambda p: replaced(sound(p), "config.json", LFS), "config.json is a Git LFS pointer"),
    "cut off": (
        lambda p: replaced(sound(p), WEIGHTS, (p / WEIGHTS).read_bytes()[:-100]),
        "bytes, and its header tells of",
    ),
    "cut off in the header": (lambda p: replaced(sound(p), WEIGHTS, (p / WEIGHTS).read_bytes()[:500]), "it is cut off"),
    "0 bytes": (lambda p: replaced(sound(p), WEIGHTS, b""), "it is cut off or no safetensors file"),
    "something else": (lambda p: replaced(sound(p), WEIGHTS, b"PK\x03\x04" + bytes(100)), "cannot be read"),
    "another file name": (lambda p: renamed(sound(p), WEIGHTS, "weights.safetensors"), "but weights.safetensors"),
    "a second file": (
        lambda p: replaced(sound(p), "old.safetensors", (p / WEIGHTS).read_bytes()),
        "there is old.safetensors",
    ),
    "AWQ": (
        lambda p: configured(sound(p), quantization_config={"quant_method": "awq", "bits": 4}),
        "quantised (quantization_config in config.json: awq)",
    ),
    "GPTQ": (
        lambda p: configured(sound(p), quantization_config={"quant_method": "gptq", "bits": 4}),
        "config.json: gptq)",
    ),
    "fp8": (lambda p: configured(sound(p), quantization_config={"quant_method": "fp8"}), "config.json: fp8)"),
    "fp8, unsaid": (lambda p: reweighted(sound(p), as_dtype(torch.float8_e4m3fn)), "its weights are F8_E4M3"),
    "int8, unsaid": (lambda p: reweighted(sound(p), as_dtype(torch.int8)), "its weights are I8"),
    "GGUF": (
        lambda p: replaced(gone(sound(p), WEIGHTS, "config.json"), "m.Q4_0.gguf", b"GGUF"),
        "it holds a GGUF file (m.Q4_0.gguf)",
    ),
    "GGUF and config": (lambda p: replaced(gone(sound(p), WEIGHTS), "m.gguf", b"GGUF"), "in a GGUF file (m.gguf)"),
    "an adapter": (
        lambda p: gone(adapter(sound(p)), WEIGHTS, "config.json"),
        "it holds an adapter (adapter_config.json), which is only a change to owner/name",
    ),
    "an adapter beside": (lambda p: adapter(sound(p)), "it holds an adapter"),
    "another MLP": (
        lambda p: configured(sound(p), intermediate_size=256),
        "is [128, 64] in model.safetensors, and by config.json it is [256, 64]; 6 tensors in all",
    ),
    "another vocabulary": (lambda p: configured(sound(p), vocab_size=512), "model.embed_tokens.weight is [261, 64]"),
    "two heads": (
        lambda p: reweighted(sound(p), another_head),
        "config.json ties lm_head.weight to model.embed_tokens.weight",
    ),
    "NaN": (lambda p: reweighted(sound(p), spoilt(float("nan"))), f"its weights hold NaN: {Q_PROJ}, 2 of 4,096 values"),
    "infinite": (
        lambda p: reweighted(sound(p), spoilt(float("inf"))),
        f"its weights hold infinite values: {Q_PROJ}, 2 of 4,096",
    ),
    "a reward model": (
        lambda p: configured(sound(p), architectures=["Qwen3ForSequenceClassification"]),
        "which is no model that writes text",
    ),
    "no such type": (lambda p: configured(sound(p), model_type="qwen99"), "no model can be built from its config.json"),
    "no type": (lambda p: configured(sound(p), model_type=None), "config.json has no model_type"),
    "no context": (
        lambda p: configured(sound(p), max_position_embeddings=None),
        "config.json has no max_position_embeddings (the model's context in tokens)",
    ),
    "no layers": (lambda p: configured(sound(p), num_hidden_layers=0), "num_hidden_layers = 0, which must be"),
    "a list for a number": (lambda p: configured(sound(p), hidden_size=[64]), "hidden_size = [64], which must be"),
    "no tokenizer": (lambda p: gone(sound(p), "tokenizer.json"), "it has no tokenizer: none of tokenizer.json"),
    "half a tokenizer": (
        lambda p: replaced(sound(p), "tokenizer.json", (p / "tokenizer.json").read_bytes()[:500]),
        "no tokenizer can be loaded",
    ),
    "a pointer for a tokenizer": (
        lambda p: replaced(sound(p), "tokenizer.json", LFS),
        "tokenizer.json is a Git LFS pointer",
    ),
    "a tokenizer's settings": (
        lambda p: replaced(sound(p), "tokenizer_config.json", b"{"),
        "no tokenizer can be loaded",
    ),
    "an end as text": (
        lambda p: replaced(sound(p), "generation_config.json", b'{"eos_token_id": "1"}'),
        'and "1" is no token of the model',
    ),
    "an end outside": (
        lambda p: replaced(sound(p), "generation_config.json", b'{"eos_token_id": [1, 261]}'),
        "and 261 is no token of the model: they are whole numbers below 261",
    ),
    "a negative end": (
        lambda p: configured(sound(p), eos_token_id=[1, -1]),
        "eos_token_id in config.json is [1, -1], and -1 is no token",
    ),
    "a broken rope": (
        lambda p: configured(sound(p), rope_parameters="linear"),
        "no model can be built from its config.json",
    ),
}


def checked(place: Path) -> list[str]:
    """What is looked at before anything starts."""
    check_model_dir(str(place), load(["recipe=care_grpo_tiny"]))
    found = check_weights(str(place))
    check_finite(str(place))
    return found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_directory_is_refused_before_anything_starts(tmp_path: Path, fault: str) -> None:
    make, said = FAULTS[fault]
    with pytest.raises(ConfigError) as caught:
        checked(make(tmp_path / "model"))
    error = caught.value
    assert error.field == "model.path" and error.value == str(tmp_path / "model")
    assert said in error.reason and error.remedy, error
    assert "is refused" not in error.reason, "an error inside of another"


@pytest.mark.parametrize(
    ("make", "notice"),
    [
        (sound, []),
        (lambda p: sound(p, "llama", tie=False), []),
        (lambda p: sound(p, "llama", attention_bias=True), []),
        (lambda p: sound(p, shard="100KB"), []),
        (lambda p: sound(p, dtype="bfloat16"), []),
        (lambda p: sound(p, dtype="float16"), []),
        (lambda p: sound(p, "mistral", tie=False), []),
        (lambda p: replaced(sound(p), "training_args.bin", b"x"), []),
        (
            lambda p: reweighted(
                sound(p), lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()})
            ),
            [],
        ),
        (lambda p: reweighted(sound(p), lambda t: t.update({INVERSE: torch.ones(16)})), []),
        (
            lambda p: configured(sound(p), num_hidden_layers=1, layer_types=None),
            ["11 tensors are not part of the architecture"],
        ),
        (
            lambda p: reweighted(sound(p), lambda t: t.update({"score.weight": torch.ones(1, 64)})),
            ["left out: score.weight"],
        ),
    ],
)
def test_a_sound_directory_passes_and_loads_and_what_is_left_out_is_told(
    tmp_path: Path, make: Callable[[Path], Path], notice: list[str]
) -> None:
    found = checked(make(tmp_path / "model"))
    assert len(found) == len(notice) and all(text in line for text, line in zip(notice, found, strict=True))
    load_model(str(tmp_path / "model"), "float32")


IN_THE_WEIGHTS = (
    "a tensor",
    "the head",
    "a wrapper's names",
    "another MLP",
    "pickled",
    "a shard is missing",
    "NaN",
    "cut off",
)


@pytest.mark.parametrize("fault", IN_THE_WEIGHTS)
def test_who_loads_refuses_with_the_same_words_and_draws_nothing(tmp_path: Path, fault: str) -> None:
    """What learner and reference call, and the plain engine."""
    make, said = FAULTS[fault]
    place = str(make(tmp_path / "model"))
    config = load(["recipe=care_grpo_tiny"])
    for attempt in (lambda: load_model(place, "float32"), lambda: HFEngine(config, place)):
        with pytest.raises(ConfigError) as caught:
            attempt()
        assert said in caught.value.reason
        assert isinstance(caught.value, RunError) and caught.value.exit_code == 2, "no traceback is shown"


def test_weights_beyond_the_limit_are_looked_through_by_who_loads_them(tmp_path: Path) -> None:
    place = str(reweighted(sound(tmp_path / "model"), spoilt(float("nan"))))
    check_finite(place, most=(tmp_path / "model" / WEIGHTS).stat().st_size - 1)
    with pytest.raises(ConfigError, match="its weights hold NaN"):
        check_finite(place, most=None)  # what vLLM's worker calls
    with pytest.raises(ConfigError, match="its weights hold NaN"):
        load_model(place, "float32")


def test_what_the_loader_reports_counts_where_headers_say_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an architecture whose tensors are merged as they are loaded, names in the files prove nothing."""
    place = str(reweighted(sound(tmp_path / "model"), without(Q_PROJ)))
    monkeypatch.setattr(whole_checkpoint, "converted_by_loader", lambda model: True)
    assert check_weights(place) == []
    with pytest.raises(
        ConfigError, match=r"1 of its tensors are not in its files: model\.layers\.0\.self_attn\.q_proj"
    ):
        load_model(place, "float32")


def test_a_mixture_of_experts_is_such_an_architecture() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("qwen3_moe", hidden_size=32, num_hidden_layers=1, num_attention_heads=1, vocab_size=9,
                                  num_key_value_heads=1, num_experts=2, moe_intermediate_size=16)  # fmt: skip
    with torch.device("meta"):
        assert whole_checkpoint.converted_by_loader(AutoModelForCausalLM.from_config(config))


class Planted:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def test_pickled_weights_are_not_read_even_past_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = gone(sound(tmp_path / "model"), WEIGHTS)
    torch.save({"w": Planted(tmp_path / "hacked")}, place / "pytorch_model.bin")
    monkeypatch.setattr(models, "check_weights", lambda *_: [])
    with pytest.raises(OSError, match="safetensors"):
        load_model(str(place), "float32")
    assert not (tmp_path / "hacked").exists()


def test_a_check_needs_no_memory_for_the_weights(tmp_path: Path) -> None:
    """A model of 14 GB by its config.json, of which nothing is there but the headers."""
    place = sound(tmp_path / "model")
    shape = load(["recipe=care_grpo_7b"]).model.shape
    configured(place, hidden_size=shape.hidden_size, num_hidden_layers=shape.num_layers, layer_types=None,
               intermediate_size=shape.intermediate_size, vocab_size=shape.vocab_size)  # fmt: skip
    with pytest.raises(ConfigError, match="tensors of its architecture are missing"):
        check_weights(str(place))


def test_a_base_model_is_not_refused_for_its_tiny_shape(tmp_path: Path) -> None:
    shape = replace(load(["recipe=base_bytes"]).model.shape, num_layers=1, hidden_size=32)
    models.make_base_bytes(tmp_path / "model", 1, shape)
    assert checked(tmp_path / "model") == []
    assert json.loads((tmp_path / "model" / "config.json").read_text())["num_hidden_layers"] == 1
