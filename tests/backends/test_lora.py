"""What a run with adapters leaves behind: whole weights that transformers loads, or a directory that peft loads.

Not covered: training (``learners/test_adapters.py``), engines (``engines/test_adapters.py``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from carerl.actors.workers.learner import LearnerWorker, fresh_model
from carerl.backends.lora import adapter_shapes, save_adapters
from carerl.backends.models import load_model, save_model
from carerl.config.load import load
from carerl.config.plan.sharding import trained
from carerl.config.schema import RunConfig
from carerl.config.stored_weights import UnusableModel, check_kind
from carerl.loss.packing import pack_rows
from carerl.tasks.tiny.tokenizer import make_tokenizer
from tests.backends.learners.ranks import on_ranks

PROMPT, RESPONSE = (10, 11, 40), (41, 12, 30, 25)


def settings(*words: str) -> RunConfig:
    rank = ["learner.lora.rank=4", "learner.lora.alpha=6", "learner.threads=1"]
    return load(["recipe=care_grpo_tiny", *rank, *words])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder, model = tmp_path_factory.mktemp("base"), fresh_model(settings())
    save_model(folder, model.config, {name: p.detach() for name, p in model.named_parameters()}, make_tokenizer())
    return str(folder)


@torch.no_grad()
def exported(config: RunConfig, base: str, folder: Path) -> tuple[Tensor, list[str]]:
    """Exports a learner's model with a B that is not zero. Returns its log-probs, and the files that it wrote."""
    worker = LearnerWorker()
    worker.load(config, base)
    generator = torch.Generator().manual_seed(3)
    for name, parameter in worker._learner.shards.policy.named_parameters():  # type: ignore[attr-defined]
        if "lora_B" in name:
            parameter.to_local().normal_(0, 0.1, generator=generator)
    worker.export(str(folder), make_tokenizer(), True, config.model.dtype)
    written = worker.write()
    _, streams = worker._learner.log_probs(pack_rows([PROMPT], [RESPONSE], temperature=1.0))
    return streams["logprobs"][0], [Path(path).name for path in written]


@torch.no_grad()
def logprobs(model: Any) -> Tensor:
    logits = model(torch.tensor([[*PROMPT, *RESPONSE]])).logits[0, len(PROMPT) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(RESPONSE)[:, None])[:, 0]


def test_a_merged_model_is_an_ordinary_one(base: str, tmp_path: Path) -> None:
    own, wrote = on_ranks(1, exported, settings(), base, tmp_path)
    assert wrote == ["model.safetensors"]
    assert set(load_file(tmp_path / "model.safetensors")) == set(load_file(f"{base}/model.safetensors"))
    check_kind(str(tmp_path))
    torch.testing.assert_close(logprobs(load_model(str(tmp_path), "float32")), own, rtol=0, atol=1e-5)
    assert float((logprobs(load_model(base, "float32")) - own).abs().max()) > 1e-2


def test_adapters_alone_are_loaded_by_peft_onto_their_base(base: str, tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM

    config = settings("learner.lora.export=adapter")
    own, wrote = on_ranks(1, exported, config, base, tmp_path)
    assert wrote == ["adapter_model.safetensors"] and not (tmp_path / "config.json").exists()
    stated = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (stated["r"], stated["lora_alpha"], stated["base_model_name_or_path"]) == (4, 6.0, base)
    torch.testing.assert_close(logprobs(AutoPeftModelForCausalLM.from_pretrained(tmp_path)), own, rtol=0, atol=1e-5)
    numbers = sum(tensor.numel() for tensor in load_file(tmp_path / "adapter_model.safetensors").values())
    assert numbers == trained(config, config.model.shape)
    with pytest.raises(UnusableModel, match="merge it into"):
        check_kind(str(tmp_path))


@pytest.mark.parametrize("commit", ["", "0123456789abcdef0123456789abcdef01234567"])
def test_adapters_name_the_commit_of_their_base(commit: str, tmp_path: Path) -> None:
    """Without it peft would put them on the hub's newest weights."""
    from peft import PeftConfig

    save_adapters(tmp_path, settings().learner.lora, ("owner/name", commit), {}, None)
    stated = PeftConfig.from_pretrained(str(tmp_path))
    assert (stated.base_model_name_or_path, stated.revision) == ("owner/name", commit or None)


@pytest.mark.parametrize("targets", ["", "learner.lora.targets=[v_proj,down_proj]"])
def test_the_shapes_that_a_sync_must_bring_are_counted_by_the_plan(base: str, targets: str) -> None:
    config = settings(*filter(None, [targets]))
    shapes = adapter_shapes(config.learner.lora, base)
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == trained(config, config.model.shape)
