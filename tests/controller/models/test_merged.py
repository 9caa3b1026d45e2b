"""Adapters and their base put together for an evaluation, against what a run exports merged.

Not covered: a run's own checkpoint, evaluated by the command (``tests/e2e/test_adapters.py``).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from carerl.backends.lora import FILE
from carerl.backends.models import end_ids, load_model, load_tokenizer
from carerl.config.evaluate import evaluation_config, merged_place
from carerl.config.load import dump
from carerl.config.stored_weights import ADAPTER, UnusableModel
from carerl.controller.models import merged, starting_weights
from carerl.controller.models.merged import merged_model
from carerl.controller.preparation import prepare
from carerl.runs.commit import commit, verify
from tests.backends.learners.ranks import on_ranks
from tests.backends.test_lora import base, exported, logprobs, settings  # noqa: F401 (base is a fixture)

HALF = ["model.dtype=bfloat16"]


@pytest.fixture(scope="module")
def adapters(base: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor]:  # noqa: F811
    """A directory of adapters, and the log-probs of their learner."""
    place = tmp_path_factory.mktemp("adapters") / "own"
    own, _ = on_ranks(1, exported, settings("learner.lora.export=adapter"), base, place)
    return place, own


@pytest.fixture
def copied(adapters: tuple[Path, Tensor], tmp_path: Path) -> Path:
    return Path(shutil.copytree(adapters[0], tmp_path / "adapters"))


@pytest.mark.parametrize("words", [[], HALF], ids=["float32", "bfloat16"])
def test_they_make_the_model_that_a_run_exports_merged(
    adapters: tuple[Path, Tensor],
    base: str,  # noqa: F811
    tmp_path: Path,
    words: list[str],
) -> None:
    config = settings(*words)
    on_ranks(1, exported, config, base, tmp_path / "whole")
    made = merged_model(str(adapters[0]), tmp_path / "made", config.model.dtype)
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "made"))
    assert made == str(tmp_path / "made") and set(found) == set(expected)
    assert all(found[name].dtype == expected[name].dtype and found[name].equal(expected[name]) for name in expected)
    assert end_ids(made) == end_ids(str(tmp_path / "whole"))
    assert load_tokenizer(made).get_vocab() == load_tokenizer(str(tmp_path / "whole")).get_vocab()
    if not words:
        torch.testing.assert_close(logprobs(load_model(made, "float32")), adapters[1], rtol=0, atol=1e-5)
    assert json.loads((tmp_path / "made" / "config.json").read_text())["dtype"] == config.model.dtype


def test_it_is_made_once_and_again_for_other_adapters_and_another_base(
    copied: Path,
    base: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    place, own = copied / "merged", Path(shutil.copytree(base, tmp_path / "own"))
    _stating(base_model_name_or_path=str(own))(copied)
    seen = []

    def make(dtype: str = "") -> bytes:
        merged_model(str(copied), place, dtype)
        seen.append((place / "model.safetensors").stat().st_ino)
        return (place / "model.safetensors").read_bytes()

    first = make()
    assert make() == first and seen[0] == seen[1]
    found = {first}
    for file in (copied / FILE, own / "model.safetensors"):
        save_file({name: 2 * tensor for name, tensor in load_file(file).items()}, file, {"format": "pt"})
        found.add(make())
    _stating(lora_alpha=1)(copied)
    assert len(found | {make(), make("bfloat16")}) == 5
    assert not list(copied.glob(".*")), "nothing half made is left"


def test_a_base_of_the_hub_is_fetched_at_the_commit_that_is_named(
    copied: Path,
    base: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def fetch(name: str) -> str:
        asked.append(name)
        return base

    monkeypatch.setattr(merged, "fetch_model", fetch)
    stated = json.loads((copied / ADAPTER).read_text())
    for revision in ("0123456789abcdef0123456789abcdef01234567", None):
        named = {"base_model_name_or_path": "owner/name", "revision": revision}
        (copied / ADAPTER).write_text(json.dumps({**stated, **named}))
        merged_model(str(copied), copied / "merged")
    assert asked == ["owner/name@0123456789abcdef0123456789abcdef01234567", "owner/name"]


def _stating(**facts: Any) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        stated = json.loads((place / ADAPTER).read_text())
        (place / ADAPTER).write_text(json.dumps({**stated, **facts}))

    return change


def _tensors(change: Callable[[dict[str, Tensor]], Any]) -> Callable[[Path], None]:
    def save(place: Path) -> None:
        tensors = load_file(place / FILE)
        change(tensors)
        save_file(tensors, place / FILE, {"format": "pt"})

    return save


A_HALF = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_stating(use_rslora=True), "use_rslora = True, and only plain LoRA"),
        (_stating(alpha_pattern={"q_proj": 3}), "alpha_pattern"),
        (_stating(bias="all"), "bias = all"),
        (_stating(init_lora_weights="pissa"), "init_lora_weights = pissa"),
        (_stating(peft_type="IA3"), "peft_type = IA3"),
        (_stating(r=0), "does not say what the adapters are"),
        (_stating(base_model_name_or_path=None), "does not name the model"),
        (_stating(base_model_name_or_path="/gone/model"), "there is no model there"),
        (lambda place: (place / ADAPTER).write_text("{"), "does not say what the adapters are"),
        (lambda place: (place / FILE).rename(place / "adapter_model.bin"), f"no {FILE}"),
        (lambda place: (place / FILE).write_bytes(b"cut off"), "cannot be read"),
        (_tensors(lambda found: found.pop(A_HALF)), "only one half"),
        (_tensors(lambda found: found.update({A_HALF: torch.zeros(4, 3)})), r"B · A is \[64, 4\] · \[4, 3\]"),
        (_tensors(lambda found: found.update({"base_model.model.x.lora_A.weight": torch.zeros(1)})), "no weight of"),
    ],
)
def test_what_would_make_another_model_is_refused(change: Any, reason: str, copied: Path) -> None:
    change(copied)
    with pytest.raises(UnusableModel, match=reason) as caught:
        merged_model(str(copied), copied / "merged")
    assert caught.value.field == "model.path" and caught.value.remedy
    assert not (copied / "merged").exists() and not list(copied.glob(".*"))


def test_what_somebody_else_has_put_at_the_place_stays(copied: Path) -> None:
    (copied / "merged").mkdir()
    (copied / "merged" / "model.safetensors").write_text("mine")
    with pytest.raises(UnusableModel, match="something else is there") as caught:
        merged_model(str(copied), copied / "merged")
    assert f"model={copied / 'merged'}" in caught.value.remedy
    assert [(file.name, file.read_text()) for file in (copied / "merged").iterdir()] == [("model.safetensors", "mine")]


def a_run(place: Path, adapters: Path, base: str) -> Path:  # noqa: F811
    """The directory of a run that has exported adapters: its newest checkpoint, an earlier one, and the best model."""
    for name in ("step_000002", "step_000004", "best_000002"):
        partial = place / "checkpoints" / f".{name}.partial"
        shutil.copytree(adapters, partial / "model")
        (partial / "state.json").write_text(json.dumps({"format": 1, "step": int(name[-6:]), "loop": {}}))
        commit(partial, place / "checkpoints" / name)
    for link, target in (("latest", "step_000004"), ("best", "best_000002")):
        (place / "checkpoints" / link).symlink_to(target)
    (place / "config.yaml").write_text(dump(settings("learner.lora.export=adapter")))
    starting_weights.record(place, base)
    return place


@pytest.mark.parametrize(
    ("inside", "name"),
    [
        ("", "step_000004"),
        ("checkpoints/latest", "step_000004"),
        ("checkpoints/best", "best_000002"),
        ("checkpoints/step_000002/model", "step_000002"),
    ],
)
def test_a_run_that_keeps_adapters_apart_is_evaluated_like_any_other(
    adapters: tuple[Path, Tensor],
    base: str,  # noqa: F811
    tmp_path: Path,
    inside: str,
    name: str,
) -> None:
    run = a_run(tmp_path / "run", adapters[0], base)
    config = evaluation_config([f"model={run / inside}", "engine=hf"], merge=merged_model)
    assert config.model.path == str(run / "merged" / name), "inside of the run, so that a comparison finds its settings"
    assert (config.recipe, config.seed, config.learner.lora.rank) == ("care_grpo_tiny", 100, 0)
    prepare(config, config.model.path)  # what the command refuses before it starts an actor
    load_model(config.model.path, "float32")
    assert verify(run / "checkpoints" / "step_000004") is None, "it can be resumed from"


def test_a_base_that_a_run_did_not_begin_with_is_refused(
    adapters: tuple[Path, Tensor],
    base: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    run = a_run(tmp_path / "run", adapters[0], base)
    facts = json.loads((run / starting_weights.RECORD).read_text())
    (run / starting_weights.RECORD).write_text(json.dumps({**facts, "identity": "sha256:other"}))
    with pytest.raises(UnusableModel, match="not those that the run started from"):
        evaluation_config([f"model={run}", "engine=hf"], merge=merged_model)


def test_adapters_of_no_run_are_put_together_beside_them(copied: Path) -> None:
    config = evaluation_config([f"model={copied}", "engine=hf", "benchmarks=[gsm8k]"], merge=merged_model)
    assert config.model.path == str(copied / "merged") == str(merged_place(str(copied)))
    assert config.model.dtype == "float32"
