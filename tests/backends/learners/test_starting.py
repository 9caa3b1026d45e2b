"""How a model's files reach the ranks: read once by rank 0, a tensor at a time, each rank keeping its part.

Covered: what every rank allocates and opens, numbers and buffers against transformers' own loader, tied and untied
heads, several files, dtypes, architectures that the loader converts, every refusal on every rank. Not covered: the hub
(``tests/backends/test_hub.py``); what a directory is refused for (``tests/backends/test_whole_checkpoint.py``).
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from carerl.algorithms import ALGORITHMS
from carerl.algorithms.grpo import GRPOConfig
from carerl.backends.learners import LEARNERS, deepspeed
from carerl.backends.learners.starting import StartingModel, from_files, in_memory
from carerl.backends.learners.totals import gather_json
from carerl.backends.models import load_model
from carerl.config.schema import LearnerConfig
from carerl.errors import ConfigError
from carerl.loss.objective import Objective
from carerl.regularizers import REGULARIZERS
from tests.allocations import allocations
from tests.backends.learners.ranks import on_ranks
from tests.backends.model_directories import Q_PROJ, reweighted, sound
from tests.backends.test_whole_checkpoint import spoilt, without

pytestmark = pytest.mark.long  # two ranks make forty learners, some three minutes

CPU = torch.device("cpu")
WAYS: dict[str, dict[str, Any]] = {
    "fsdp2": {},
    "hsdp 2x1": {"shard_ranks": 1},
    "zero 2": {"backend": "deepspeed", "zero_stage": 2},
    "zero 3": {"backend": "deepspeed", "zero_stage": 3},
}
MODELS: dict[str, dict[str, Any]] = {
    "tied": {"dtype": "bfloat16", "shard": "100KB"},
    "untied": {"tie": False, "dtype": "float16"},
    "llama": {"architecture": "llama", "tie": False},
    "experts": {"architecture": "qwen3_moe", "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
}
BIG = 16  # layers, so that a layer is small beside the model
LOADS = 6  # of the same model, of which the least peak counts


def shards(start: StartingModel, **settings: Any) -> Any:
    config = LearnerConfig(**settings)
    algorithm, regularizer = ALGORITHMS["grpo"].build(GRPOConfig()), REGULARIZERS["none"].build(None)
    made: Any = LEARNERS[config.backend](start, config, Objective(algorithm, regularizer, 0.0, "score"), CPU)
    return made.shards


def as_loaded(made: Any, path: str) -> dict[str, bool]:
    """Compares with what transformers loads."""
    expected = load_model(path, "float32")
    weights = {name: tensor.clone() for name, tensor in made.source(torch.float32)}
    module = getattr(made, "_engine", made).module if hasattr(made, "_engine") else made.policy
    buffers = {name.removeprefix("model."): buffer for name, buffer in module.named_buffers()}
    return {
        "names": list(weights) == [name for name, _ in expected.named_parameters()],
        "numbers": all(torch.equal(weights[name], tensor) for name, tensor in expected.named_parameters()),
        "buffers": bool(buffers) and all(torch.equal(buffers[n], b) for n, b in expected.named_buffers()),
        "config": made.hf_config.to_dict() == expected.config.to_dict(),
    }


def held(path: str, way: str) -> dict[str, int]:
    """What this rank allocates while it loads, in bytes: the least of several loads, as the profiler can only count too
    much (what gloo's own thread gives back, it does not see: 0.1 to 1.0 of a rank's half here). No rest of an earlier
    learner may be given back meanwhile: it would be taken off."""
    found = []
    for _ in range(LOADS):
        made: list[Any] = []
        gc.collect()
        found.append(allocations(lambda made=made: made.append(shards(from_files(path), **WAYS[way]))))
        made.pop().close()
    return {"largest": max(one.largest for one in found), "peak": min(one.peak for one in found)}


def refused(path: str, way: str) -> str:
    try:
        shards(from_files(path), **WAYS[way])
    except ConfigError as error:
        return str(error)
    return "nothing was refused"


def all_that_two_ranks_are_asked(places: dict[str, str]) -> dict[str, Any]:
    deepspeed.BUCKET = 2**14  # of 2**27 it would be as large as these models
    real = deepspeed._settings

    def settings(config: LearnerConfig, parameters: int) -> dict[str, Any]:
        """Returns the real ones, but lets stage 3 keep no weights whole: it does so with those below 100,000 values,
        which are few in a large model, and all of this one."""
        made = real(config, parameters)
        made["zero_optimization"]["stage3_param_persistence_threshold"] = 0
        return made

    deepspeed._settings = settings
    opened: list[str] = []
    sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
    found: dict[Any, Any] = {}
    for way in WAYS:
        opened.clear()
        shards(from_files(places["tied"]), **WAYS[way]).close()
        weights = sorted(Path(name).name for name in opened if name.endswith(".safetensors"))
        found["opened", way] = gather_json(weights, CPU)
    for way in WAYS:
        found["held", way] = gather_json(held(places["big"], way), CPU)
        for model in MODELS:
            made = shards(from_files(places[model]), **WAYS[way])
            found["loaded", way, model] = as_loaded(made, places[model])
            made.close()
    for way in ("fsdp2", "zero 3"):
        for fault in ("lacks", "nan"):
            found["refused", way, fault] = gather_json(refused(places[fault], way), CPU)
    dist.barrier()
    return found


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    made = {name: sound(folder / name, **keys) for name, keys in MODELS.items()}
    made["big"] = sound(folder / "big", dtype="bfloat16", layers=BIG)
    made["lacks"] = reweighted(sound(folder / "lacks"), without(Q_PROJ))
    made["nan"] = reweighted(sound(folder / "nan"), spoilt(float("nan")))
    return {name: str(place) for name, place in made.items()}


@pytest.fixture(scope="module")
def by_two(places: dict[str, str]) -> dict[Any, Any]:
    found: dict[Any, Any] = on_ranks(2, all_that_two_ranks_are_asked, places)
    return found


def test_rank_0_alone_reads_the_weights(by_two: Any, places: dict[str, str]) -> None:
    files = {path.name for path in Path(places["tied"]).glob("*.safetensors")}
    assert len(files) > 1
    for way in WAYS:
        first, second = by_two["opened", way]
        assert set(first) == files and second == []


@pytest.mark.parametrize(("way", "copies"), [("fsdp2", 1), ("zero 3", 3)])
def test_no_rank_holds_the_whole_model(by_two: Any, places: dict[str, str], way: str, copies: int) -> None:
    """Neither in one piece nor in several. The tensor that travels is there as it is stored, and cut into the ranks'
    parts. ``copies``: of a rank's half in float32. ZeRO has the weights twice, here both in float32, and gradients.
    The bar leaves room for less than one more (``held``: what the profiler counts too much)."""
    sizes = [parameter.numel() for parameter in load_model(places["big"], "float32").parameters()]
    half, largest = 4 * sum(sizes) / 2, 4 * max(sizes)
    assert half > 8 * largest
    mapped = sum(path.stat().st_size for path in Path(places["big"]).glob("*.safetensors"))  # a file, not memory
    for rank, found in enumerate(by_two["held", way]):
        assert found["largest"] < 1.1 * half
        room = 2 * largest + (0.9 * half if way == "zero 3" else 0.1 * half) + (mapped if rank == 0 else 0)
        assert 0.9 * copies * half < found["peak"] < copies * half + room


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", MODELS)
def test_numbers_names_and_buffers_are_those_of_transformers(by_two: Any, way: str, model: str) -> None:
    assert all(by_two["loaded", way, model].values()), by_two["loaded", way, model]


@pytest.mark.parametrize("way", ["fsdp2", "zero 3"])
@pytest.mark.parametrize("fault", ["lacks", "nan"])
def test_every_rank_refuses_what_rank_0_met(by_two: Any, places: dict[str, str], way: str, fault: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_model(places[fault], "float32")
    assert by_two["refused", way, fault] == [str(error.value)] * 2


def with_a_buffer() -> Tensor:
    from tests.backends.learners.test_fsdp2 import model

    made = model(1, torch.float32)
    made.model.register_buffer("scale", torch.tensor([2.0, 3.0]))
    policy = shards(in_memory(made)).policy
    assert isinstance(policy.model.model.scale, Tensor)
    return policy.model.model.scale.clone()


def test_a_buffer_that_checkpoints_have_is_sent_too() -> None:
    assert on_ranks(1, with_a_buffer).tolist() == [2.0, 3.0]
