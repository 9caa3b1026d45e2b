"""``rollout.batch_invariant``: where it is refused, and how vLLM is told. What it does needs a GPU: tests/gpu."""

from __future__ import annotations

import os
import sys
from types import ModuleType

import pytest

from carerl.backends.engines import vllm as engine
from carerl.config.load import load
from carerl.errors import ConfigError

ON = "rollout.batch_invariant=true"
NAME = "VLLM_BATCH_INVARIANT"
SEVEN = "recipe=care_grpo_7b"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["recipe=care_grpo_tiny", ON], "for GPUs"),
        ([SEVEN, ON, "rollout.engine=hf"], "the engine is hf"),
        ([SEVEN, ON, "cluster.gpu=v100_32", "model.dtype=float32", "learner.compute_dtype=float32",
          "reference.compute_dtype=float32"], "compute capability 8.0"),
    ],
)  # fmt: skip
def test_it_is_refused_where_vllm_has_no_kernels_for_it(words: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        load(words)
    assert "rollout.batch_invariant=false" in caught.value.remedy
    load([word for word in words if word != ON and word != "cluster.gpu=v100_32"])


@pytest.mark.parametrize("card", ["h100", "a100_80", "l4", "rtx4090"])
def test_it_is_taken_on_cards_that_have_it(card: str) -> None:
    assert load([SEVEN, ON, "dry_run=true", f"cluster.gpu={card}"]).rollout.batch_invariant


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "0")
    monkeypatch.delitem(sys.modules, "vllm", raising=False)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(("words", "value"), [([SEVEN, ON], "1"), ([SEVEN], "0")])
def test_vllm_is_told_before_it_is_imported(words: list[str], value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "1")  # a user's variable: the setting is what a run's config.yaml shows
    engine.tell_batches(load(words))
    assert os.environ[NAME] == value


@pytest.mark.usefixtures("environment")
def test_a_process_that_has_vllm_cannot_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", ModuleType("vllm"))
    engine.tell_batches(load([SEVEN]))
    with pytest.raises(RuntimeError, match="start a sweep for each value"):
        engine.tell_batches(load([SEVEN, ON]))
    monkeypatch.setenv(NAME, "1")
    engine.tell_batches(load([SEVEN, ON]))
