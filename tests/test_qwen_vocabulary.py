"""The vocabulary that the tests build is Qwen2's: token by token as tiktoken encodes with the published ranks."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests import qwen_vocabulary as qwen
from tests.tasks.shared_data import data_dir


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(qwen.qwen_directory_or_skip(tmp_path_factory.mktemp("qwen")))


def math_questions() -> dict[str, str]:
    lines = Path(data_dir("math_train.jsonl"), "math_train.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row["question"] for row in map(json.loads, lines)}


def test_special_tokens_have_the_published_ids(tokenizer: Any) -> None:
    assert tokenizer.convert_tokens_to_ids(list(qwen.SPECIALS)) == list(qwen.SPECIAL_IDS)
    assert (len(tokenizer), tokenizer.eos_token_id) == (151646, 151643)
    assert tokenizer.encode("<|im_end|>") == [151645]


def test_maths_training_questions_encode_as_tiktoken_does_and_come_back(tokenizer: Any) -> None:
    """The figures are those that were measured with the ranks and tiktoken, without this file."""
    tiktoken = pytest.importorskip("tiktoken")
    ranks = qwen.read_ranks(qwen.ranks_file())
    theirs = tiktoken.Encoding("qwen2", pat_str=qwen.SPLIT, mergeable_ranks=ranks, special_tokens={})
    questions = math_questions()
    texts = list(questions.values())

    ours = tokenizer(texts, add_special_tokens=False)["input_ids"]

    assert ours == [theirs.encode(unicodedata.normalize("NFC", text), disallowed_special=()) for text in texts]
    assert tokenizer.batch_decode(ours) == texts
    lengths = dict(zip(questions, map(len, ours), strict=True))
    assert (len(lengths), median(lengths.values())) == (7500, 49)
    assert sum(length > 1000 for length in lengths.values()) == 7
    assert max((length, name) for name, length in lengths.items()) == (1654, "math-train-02616")


def test_the_chat_template_adds_a_system_prompt_where_none_is_given(tokenizer: Any) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    own = [{"role": "system", "content": "Be brief."}, *messages]
    start, end = "<|im_start|>", "<|im_end|>\n"
    rest = f"{start}user\nHi{end}{start}assistant\n"

    def shown(said: list[dict[str, str]]) -> str:
        return str(tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True))

    assert shown(messages) == f"{start}system\n{qwen.SYSTEM}{end}{rest}"
    assert shown(own) == f"{start}system\nBe brief.{end}{rest}"


def test_shape_and_tokenizer_are_the_recipes(tmp_path: Path) -> None:
    from carerl.config.check.at_hand import check_model_dir
    from carerl.config.load import load
    from carerl.config.shapes import shape_from_directory

    folder = qwen.qwen_directory_or_skip(tmp_path / "qwen")
    config = load(["recipe=care_dapo_7b", "dry_run=true"])

    check_model_dir(str(folder), config)
    assert shape_from_directory(str(folder)) == config.model.shape
