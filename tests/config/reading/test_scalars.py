"""What is typed is what is meant: text as it stands, numbers in base ten, whatever YAML makes of them.

Values on the command line and in recipe files. References and the environment: test_references.py.
"""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

from carerl.config.load import dump, load, parse, read
from carerl.config.reading.scalars import native, quoted_word, read_yaml_text
from carerl.errors import ConfigError

TINY = "recipe=care_grpo_tiny"
# text that YAML takes for something else: octal, digits in groups, base sixty, exponents, truth values, a comment
TEXTS = [
    "0042", "007", "20260101_1200", "1e5", ".5e3", "1.10", "2.0", "12:30:45", "1:30", "0x1F", "0b11", "+5", "no", "yes",
    "on", "Off", "True", "2026-01-01", "a #b", "run # 3", "a: b", "-", "%run", "@home", "*best", "&x", "!x", ">x",
    "| x",
    "= x", "? x", "1_000", "~",
]  # fmt: skip


def value(config: Any, path: str) -> Any:
    return reduce(getattr, path.split("."), config)


@pytest.mark.parametrize("text", TEXTS)
def test_text_stays_as_it_was_typed(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load([TINY, f"description={text}", "dry_run=true"])
    assert config.description == text and type(config.description) is str
    (tmp_path / "config.yaml").write_text(dump(config))
    assert read(tmp_path / "config.yaml") == config, "and comes back from a run's config.yaml"


@pytest.mark.parametrize("text", [t for t in TEXTS if ": " not in t and " #" not in t and t[0] not in "-%@*&!>|=?"])
def test_text_of_a_recipe_file_stays_too(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "r.yaml").write_text(f"extends: [care_grpo_tiny]\nrun_dir: x/{text}\ndescription: {text}\n")
    config = load(["recipe=r", "dry_run=true"])
    assert (config.run_dir, config.description) == (f"x/{text}", text)


@pytest.mark.parametrize(
    ("word", "text"),
    [("run_dir='0042'", "0042"), ('run_dir="a #b"', "a #b"), ("run_dir='it''s'", "it's"), ('run_dir="1e5"', "1e5"),
     ("run_dir='null'", "null"), ("run_dir=", "")],
)  # fmt: skip
def test_quotes_are_taken_off(word: str, text: str) -> None:
    assert load([TINY, word, "dry_run=true"]).run_dir == text


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("steps=0100", 100), ("seed=010", 10), ("seed=08", 8), ("seed=1_000", 1000), ("seed=+12", 12),
        ("regularizer.beta=010", 10.0), ("regularizer.beta=.5", 0.5), ("regularizer.beta=5e-1", 0.5),
        ("regularizer.beta=1e5", 1e5), ("regularizer.beta=007.5", 7.5),
        ("learner.optimizer.betas=[0.50,00.9]", [0.5, 0.9]),
        ("evaluation.at_start=False", False), ("evaluation.at_start=no", False),
        ("model.base_overrides=[steps=0100]", ["steps=0100"]),
    ],
)  # fmt: skip
def test_numbers_are_read_in_base_ten(word: str, expected: Any) -> None:
    found = value(load([TINY, word, "dry_run=true"]), word.partition("=")[0])
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("word", "reason", "remedy"),
    [
        ("seed=0x10", "base ten", "seed=16"), ("seed=0b11", "base ten", "seed=3"),
        ("seed=1e3", "whole number", "seed=1000"),
        ("seed=100.0", "whole number", "seed=100"), ("seed=1,000", "whole number", "seed=1000"),
        ("seed=１００", "digits alone", "seed=100"), ("seed=1:30", "whole number", "seed="),
        ("seed=", "whole number", "seed="),
        ("seed=null", "whole number", "seed="), ("seed=1 000", "whole number", "seed="),
        ("seed=²", "whole number", "seed="),
        ("steps='20'", "text in quotes", "steps=20"), ("seed=" + "9" * 5000, "too large", "less than"),
        ("regularizer.beta=1:30", "a number", "beta="), ("regularizer.beta=0x10", "base ten", "beta=16"),
        ("dry_run=1", "true or false", "dry_run="), ("run_dir=null", "YAML's word for nothing", "run_dir='\"null\"'"),
        ("run_dir=[a]", "text", "quotes"), ("run_dir='a' b", "not a YAML value", "quote"),
        ("description=\udcff", "UTF-8", "again"),
    ],
)  # fmt: skip
def test_what_is_no_number_is_refused_with_the_one_that_was_meant(word: str, reason: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load([TINY, word])
    assert reason in caught.value.reason and remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("learner.optimizer.betas=0.9,0.95", "[0.9,0.95]"), ("learner.optimizer.betas=0.9 0.95", "[0.9,0.95]"),
        ("learner.optimizer.betas=(0.9,0.95)", "[0.9,0.95]"), ("learner.optimizer.betas=[0.9 0.95]", "[0.9,0.95]"),
        ("learner.optimizer.betas=[[0.9],[0.95]]", "[0.9,0.95]"), ("learner.optimizer.betas=", "[]"),
        ("learner.optimizer.betas=[0.9,[0.95]]", "[0.9,0.95]"), ("model.base_overrides=steps=20", "[steps=20]"),
        ("model.base_overrides=[steps: 20]", "[steps=20]"),
        ("model.base_overrides=20,a b", "[20,a b]"),
    ],
)  # fmt: skip
def test_a_list_that_is_none_is_given_back_as_one(word: str, remedy: str) -> None:
    key = word.partition("=")[0]
    with pytest.raises(ConfigError) as caught:
        load([TINY, word])
    assert caught.value.field == key and f"{key}={remedy}" in caught.value.remedy
    assert "Config" not in caught.value.reason, "no class of a library is named"


@pytest.mark.parametrize(
    "word",
    ["task.name=[a]", "task.name={a: b}", "task=[a]", "learner=[1]", "tracking.wandb_project={a: 1}", "seed=[1]",
     "plugins=[[a]]", "plugins={a: b}", "resume=[a]", "resume={}", "model.path=[a]", "run_dir=[a]", "extends=[x]",
     "model.base_overrides=[[a]]", "model.base_recipe=[a]", "evaluation.seed={}", "learner.optimizer.betas=[&a [*a]]",
     "learner={optimizer: 3}", "learner.optimizer.betas=[a: 1]", "checkpoint.best=[a]", 'run_dir="a\\0b"', "recipe=[a]",
     "seed=" + "[" * 3000, "run_dir=" + "x" * 5000, "learner.optimizer.betas=[.9,.95] # c"],
)  # fmt: skip
def test_a_value_of_a_wrong_form_is_refused_in_words(word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load([TINY, word])
    assert caught.value.field.startswith(word.partition("=")[0]) and caught.value.remedy


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &a [*a]", "alias"), ("a: 1\na: 2", "duplicate key"), ("a: {b: 1, b: 2}", "duplicate key"),
        ("a: !!python/object/apply:os.getcwd []", "python"),
        ("x0: &x0 [1,1]\n" + "\n".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 9)),
        "more than"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_or_grows_is_refused(text: str, reason: str) -> None:
    with pytest.raises((ValueError, yaml.YAMLError), match=reason):
        read_yaml_text(text)


@pytest.mark.parametrize("text", ["it's", 'say "x"', "$HOME", "a`b", "plain", "[a", "a\\b"])
def test_a_quoted_word_is_the_text_once_a_shell_and_yaml_have_read_it(text: str) -> None:
    import shlex

    (word,) = shlex.split(quoted_word("description", text))
    assert native(parse([word])) == {"description": text}
