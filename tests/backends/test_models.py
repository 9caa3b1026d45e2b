"""An exported model's directory: card, chat template, generation config. Engines that load one: test_engines.py."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from carerl.backends.models import end_ids, load_model, load_tokenizer, make_model, save_model
from carerl.config.load import load
from carerl.config.schema import ShapeConfig
from carerl.runs.model_card import ModelCard, describe_model
from carerl.tasks.byte_tokenizer import CHAT_TEMPLATE, VOCAB_SIZE, make_byte_tokenizer

VERSIONS = {"carerl": "0.1.0", "commit": "0123abcd", "dirty": True}
METRICS = (("accuracy", 0.8625), ("FACTS ECE", 0.05213))


def export(directory: Path, chat: bool = True) -> Path:
    shape = ShapeConfig(vocab_size=VOCAB_SIZE, hidden_size=32, intermediate_size=32, num_layers=1, num_heads=1,
                        num_kv_heads=1)  # fmt: skip
    model = make_model(shape, (1,))
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    save_model(directory, model.config, weights, make_byte_tokenizer(chat, context=64))
    return directory


def card(words: tuple[str, ...] = (), recipe: str = "care_grpo_tiny") -> ModelCard:
    return ModelCard.of(load([f"recipe={recipe}", *words]), 200, METRICS, VERSIONS)


def metadata(text: str) -> dict[str, Any]:
    _, head, _ = text.split("---\n", 2)
    loaded: dict[str, Any] = yaml.safe_load(head)
    return loaded


def test_a_card_says_what_made_the_model_and_what_it_reached() -> None:
    text = card(("regularizer.alpha=.9", "seed=7")).text()
    for fact in (
        "| recipe | care_grpo_tiny, seed 7, 200 steps |", "| base model | recipe base_tiny |", "| algorithm | grpo |",
        "| regularizer | srkl (", "alpha 0.9", "beta 4.0", "commit 0123abcd with local changes",
        "| accuracy | 0.8625 |", "| FACTS ECE | 0.05213 |", "16 samples a question at temperature 1",
        "no other model's licence",
    ):  # fmt: skip
        assert fact in text, fact
    assert metadata(text) == {
        "library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["carerl"],
    }  # fmt: skip


def test_a_model_of_the_hub_keeps_its_licence_and_a_local_ones_place_is_not_told(tmp_path: Path) -> None:
    hub = card(recipe="care_grpo_3b").text()
    assert metadata(hub)["base_model"] == "Qwen/Qwen2.5-3B"
    assert "derive from Qwen/Qwen2.5-3B, whose licence" in hub
    export(tmp_path / "mine")
    local = load(["recipe=care_grpo_3b"])
    local.model.path = str(tmp_path / "mine")
    text = ModelCard.of(local, 1, (), {}).text()
    assert "derive from mine, whose licence" in text and str(tmp_path) not in text
    assert "base_model" not in metadata(text) and "Not evaluated at step 1." in text


def test_an_export_loads_with_its_chat_template_and_its_sampling(tmp_path: Path) -> None:
    from transformers import GenerationConfig

    directory = export(tmp_path)
    before = (directory / "generation_config.json").read_text()
    describe_model(directory, card(("evaluation.temperature=.7", "evaluation.top_p=.9")))
    assert load_model(str(directory), "float32").config.vocab_size == VOCAB_SIZE
    tokenizer = load_tokenizer(str(directory))
    assert tokenizer.chat_template == CHAT_TEMPLATE
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "2+2"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|user|>2+2<eos><|assistant|>"
    sampling = GenerationConfig.from_pretrained(directory)
    assert (sampling.do_sample, sampling.temperature, sampling.top_p, sampling.top_k) == (True, 0.7, 0.9, 0)
    after = json.loads((directory / "generation_config.json").read_text())
    assert {name: after[name] for name in ("eos_token_id", "pad_token_id")} == {
        name: json.loads(before)[name] for name in ("eos_token_id", "pad_token_id")
    }
    assert (directory / "README.md").read_text().startswith("---\n")


@pytest.mark.parametrize(
    ("temperature", "top_k", "expected"), [(1.0, -1, (True, 0)), (1.0, 20, (True, 20)), (0.0, -1, (False, None))]
)
def test_sampling_is_that_of_the_evaluation(
    tmp_path: Path, temperature: float, top_k: int, expected: tuple[bool, int | None]
) -> None:
    directory = export(tmp_path, chat=False)
    plain = card()
    describe_model(
        directory, replace(plain, evaluation=replace(plain.evaluation, temperature=temperature, top_k=top_k))
    )
    generation = json.loads((directory / "generation_config.json").read_text())
    assert (generation["do_sample"], generation.get("top_k")) == expected
    assert load_tokenizer(str(directory)).chat_template is None  # the model has never seen one


def test_an_export_names_every_token_that_ended_a_response(tmp_path: Path) -> None:
    """In both files, as vLLM and transformers look into one or the other; and a second export loses none."""
    from transformers import AutoConfig, GenerationConfig

    export(tmp_path / "one")
    loaded = load_model(str(tmp_path / "one"), "float32")
    weights = {name: parameter.detach() for name, parameter in loaded.named_parameters()}
    assert loaded.config.eos_token_id == 1
    save_model(tmp_path / "two", loaded.config, weights, make_byte_tokenizer(), ends=(1, 7))
    assert loaded.config.eos_token_id == 1, "what it was given is as it was"
    describe_model(tmp_path / "two", card())
    again = load_model(str(tmp_path / "two"), "float32")
    save_model(tmp_path / "three", again.config, weights, make_byte_tokenizer())
    for directory in ("two", "three"):
        assert GenerationConfig.from_pretrained(tmp_path / directory).eos_token_id == [1, 7]
        assert AutoConfig.from_pretrained(tmp_path / directory).eos_token_id == [1, 7]
        assert end_ids(str(tmp_path / directory)) == (1, 7)
    assert json.loads((tmp_path / "one" / "generation_config.json").read_text())["eos_token_id"] == 1
