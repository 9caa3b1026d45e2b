"""``base_bytes``: an untrained model that reads bytes, in the cache, as transformers loads it.

Not covered: vLLM on it (tests marked engine load directories of this shape)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from carerl.backends.models import load_model, load_tokenizer, make_base_bytes
from carerl.config.check.at_hand import check_model_dir
from carerl.config.check.prompts import own_tokenizer
from carerl.config.load import base_config, base_key, load
from carerl.config.schema import ShapeConfig
from carerl.controller import launch
from carerl.controller.models import base_model
from carerl.errors import ConfigError
from carerl.tasks import TASKS, TextTask
from carerl.tasks.byte_tokenizer import VOCAB_SIZE

ON_BYTES = ["recipe=care_grpo_tiny", "task.name=jsonl", "task.prompt_template='{question}'",
            "model.base_recipe=base_bytes", f"model.shape.vocab_size={VOCAB_SIZE}", "model.shape.context_length=2048",
            "rollout.max_model_len=64"]  # fmt: skip


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CARERL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_it_is_made_once_and_loads_as_any_other(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = base_model.bytes_model()
    assert Path(directory).is_relative_to(cache)
    before = Path(directory, "model.safetensors").stat().st_mtime_ns
    result = launch.launch(load(["recipe=base_bytes"]))  # the command: no cluster is started for it
    assert str(result.run_dir) == directory and result.exit_code == 0 and directory in capsys.readouterr().out
    assert Path(directory, "model.safetensors").stat().st_mtime_ns == before
    check_model_dir(directory, load(["recipe=care_grpo_tiny"]))

    model, tokenizer = load_model(directory, "float32"), load_tokenizer(directory)
    assert model.config.max_position_embeddings >= 2048 and model.config.vocab_size == len(tokenizer)
    ids = tokenizer.apply_chat_template([{"role": "user", "content": "Why?"}], tokenize=True, return_dict=False)
    with torch.no_grad():
        logprobs = torch.log_softmax(model(torch.tensor([ids])).logits[0, -1], -1)
    entropy = -float((logprobs.exp() * logprobs).sum())
    assert 0.8 * math.log(VOCAB_SIZE) < entropy <= math.log(VOCAB_SIZE), "near to uniform: it has learned nothing"


def test_weights_depend_on_the_seed_alone(tmp_path: Path) -> None:
    shape = ShapeConfig(vocab_size=VOCAB_SIZE, context_length=2048)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.manual_seed(len(name) + seed * 7)
        make_base_bytes(tmp_path / name, seed, shape)
    weights = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in "abc"}
    assert weights["a"] == weights["b"] != weights["c"]
    with pytest.raises(ValueError, match="261 tokens"):
        make_base_bytes(tmp_path / "d", 1, ShapeConfig(vocab_size=VOCAB_SIZE + 3))


def rl_on_bytes(tmp_path: Path, *words: str) -> Any:
    (tmp_path / "train.jsonl").write_text(
        '{"question": "1 + 1?", "answer": "2"}\n{"question": "2 + 2?", "answer": "4"}\n'
    )
    (tmp_path / "test.jsonl").write_text('{"question": "3 + 3?", "answer": "6"}\n')
    files = [f"task.train={tmp_path / 'train.jsonl'}", f"task.benchmarks=[{tmp_path / 'test.jsonl'}]"]
    return load([*ON_BYTES, *files, *words])


def test_an_rl_run_on_text_starts_from_it(cache: Path, tmp_path: Path) -> None:
    """Up to the first actor: plan, tokenizer and checks before it is made, and its directory."""
    config = rl_on_bytes(tmp_path)
    task, tokenizer = launch.prepare(config, "")
    assert isinstance(task, TextTask) and len(tokenizer) == VOCAB_SIZE and task.stop_ids == (tokenizer.eos_token_id,)
    place = base_model.untrained_model(base_config(config))
    assert place == base_model.starting_directory(config)
    again, saved = launch.prepare(config, place)
    assert saved.encode("1 + 1?") == tokenizer.encode("1 + 1?")
    assert again.train_examples(0, 2)[0].prompt_ids == task.train_examples(0, 2)[0].prompt_ids


def test_the_cached_model_does_not_depend_on_the_task(tmp_path: Path) -> None:
    keys = {
        base_key(base_config(rl_on_bytes(tmp_path, *words)))
        for words in ([], ["task.system_prompt=Be brief."], ["steps=7"])
    }
    assert len(keys) == 1
    others = [base_key(base_config(rl_on_bytes(tmp_path, word))) for word in ("seed=5", "model.shape.num_layers=2")]
    assert len({*keys, *others}) == 3


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["recipe=base_bytes", "model.shape.vocab_size=264"], "model.shape.vocab_size"),
        (["recipe=base_bytes", "evaluation.at_end=true"], "evaluation.at_end"),
        (["recipe=base_bytes", "task.name=math"], "task"),
        (["recipe=base_bytes", "model.base_recipe=base_tiny"], "model.base_recipe"),
        ([*ON_BYTES, "task.train=a.jsonl", "task.benchmarks=[gsm8k]", "dry_run=true", "model.shape.vocab_size=64"],
         "model.shape.vocab_size"),
    ],
)  # fmt: skip
def test_what_means_nothing_for_it_is_refused(words: list[str], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(words)
    assert caught.value.field == field


def test_tasks_that_own_a_tokenizer_keep_it() -> None:
    config = load(["recipe=care_grpo_tiny"])
    tokenizer = own_tokenizer(config, TASKS["tiny"].build(config.task, 0))
    assert tokenizer is not None and len(tokenizer) == 64
