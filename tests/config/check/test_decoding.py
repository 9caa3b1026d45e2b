"""Settings of decoding that nothing would read, or that methods would not follow, are refused before anything starts.

Other refusals are ``controller/test_decoding``'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from carerl.config.check.decoding import READERS
from carerl.config.evaluate import evaluation_config
from carerl.errors import ConfigError
from carerl.inference.config import DecodeConfig
from carerl.inference.methods import METHODS
from tests.backends.model_directories import untrained_base

EVERY = ",".join(METHODS)
UNREAD = [
    ("self_consistency", "decode.cat.reallocate=false"),
    ("deepconf", "decode.cat.threshold=0.5"),
    ("self_certainty", "decode.cat.cumulative=minimum"),
    ("deepconf", "decode.cat.quantile=0.1"),
    ("cat", "decode.deepconf.warmup=2"),
    ("deepconf_offline", "decode.deepconf.quantile=0.2"),
    ("deepconf", "decode.deepconf.keep=0.5"),
    ("cat", "decode.deepconf.window=16"),
    ("self_certainty", "decode.deepconf.measure=tail"),
    ("cat", "decode.self_certainty.vote=borda"),
    ("self_certainty", "decode.self_certainty.power=2"),
    ("deepconf", "decode.validation_questions=8"),
    ("self_consistency", "decode.top=5"),
    ("greedy", "decode.budget=6"),
    ("greedy", "decode.temperature=0.5"),
]
READ = [
    ("deepconf", "decode.deepconf.measure=tail"),
    ("deepconf_offline", "decode.deepconf.window=16"),
    ("deepconf_offline", "decode.deepconf.keep=0.5"),
    ("self_certainty", "decode.self_certainty.vote=borda decode.self_certainty.power=2"),
    ("deepconf", "decode.deepconf.warmup=0 decode.validation_questions=8"),
    ("cat", "decode.cat.quantile=0.1 decode.validation_questions=8"),
    ("cat", "decode.cat.threshold=-1"),
    ("cat", "decode.cat.threshold=1.5"),
    ("greedy", "temperature=0 samples=1"),
    ("self_consistency", "temperature=0 samples=1 decode.temperature=1"),
]


@pytest.fixture(scope="module")
def base_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_base(tmp_path_factory.mktemp("base"))


def refused(base_dir: Path, methods: str, words: str) -> ConfigError | None:
    try:
        evaluation_config([f"model={base_dir}", "engine=hf", f"decode.methods=[{methods}]", *words.split()])
    except ConfigError as error:
        return error
    return None


@pytest.mark.parametrize(("methods", "word"), UNREAD)
def test_a_setting_that_no_method_reads_is_refused(base_dir: Path, methods: str, word: str) -> None:
    """And with all methods it is read, but for those that another setting puts out of use."""
    error = refused(base_dir, methods, word)
    assert error is not None and error.field == word.partition("=")[0] and not error.others
    assert "nothing would read it" in error.reason
    beside = {"decode.self_certainty.power=2": "decode.self_certainty.vote=borda"}
    assert refused(base_dir, EVERY, f"{word} {beside.get(word, '')}") is None


@pytest.mark.parametrize(("methods", "words"), READ)
def test_a_setting_that_is_read_is_taken(base_dir: Path, methods: str, words: str) -> None:
    assert refused(base_dir, methods, words) is None


def test_every_setting_but_those_of_every_method_has_its_readers() -> None:
    def names(settings: object, place: str) -> Iterator[str]:
        for field in fields(settings):  # type: ignore[arg-type]
            value = getattr(settings, field.name)
            yield from names(value, f"{place}.{field.name}") if is_dataclass(value) else (f"{place}.{field.name}",)

    of_all = {"decode.methods", "decode.suites", "decode.show", "decode.delimiter"}
    listed = [key for _, keys, _ in READERS for key in keys]
    assert sorted(listed) == sorted(set(names(DecodeConfig(), "decode")) - of_all)


@pytest.mark.parametrize(
    ("methods", "words", "field", "remedy"),
    [
        ("cat", "evaluation.top_p=0.9", "evaluation.top_p", "leave it out"),
        ("greedy", "evaluation.top_k=5", "evaluation.top_k", "leave it out"),
        ("self_consistency,greedy", "evaluation.temperature=0 samples=1", "evaluation.temperature", "temperature=1"),
        ("cat", "decode.cat.threshold=-0.5", "decode.cat.threshold", "-1 to have it learned"),
        ("cat", "decode.cat.threshold=0.5 decode.cat.quantile=0.1", "decode.cat.quantile", "leave it out"),
        ("cat", "decode.cat.threshold=0.5 decode.validation_questions=8", "decode.validation_questions", "leave it"),
    ],
)
def test_what_decoders_would_not_follow_is_refused(
    base_dir: Path, methods: str, words: str, field: str, remedy: str
) -> None:
    error = refused(base_dir, methods, words)
    assert error is not None and error.field == field and remedy in error.remedy
