"""Learners that train adapters, against a plain peft model in one process and against the base model alone.

Covered: FSDP2, HSDP and DeepSpeed's ZeRO 1, 2 and 3, on one rank and on two of which one may be without rows; gradients
of the adapters and of nothing else; the reference with the adapters off; checkpoints, also on another number of ranks
and of the other backend; bfloat16. Not covered: engines (``engines/test_adapters.py``), exports (``test_lora.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from carerl.algorithms import ALGORITHMS
from carerl.algorithms.grpo import GRPOConfig
from carerl.backends.learners import LEARNERS, fsdp2
from carerl.backends.learners.adapters import adapted
from carerl.backends.learners.files import Reader
from carerl.backends.learners.reference import AdaptersOff, FrozenPolicy
from carerl.backends.learners.starting import in_memory
from carerl.backends.lora import PREFIX, is_adapter, on_its_way
from carerl.config.schema import LearnerConfig, LoraConfig
from carerl.loss.objective import Objective
from carerl.regularizers import REGULARIZERS
from carerl.regularizers.srkl import SRKLConfig
from tests.backends.learners.ranks import alone, on_ranks
from tests.backends.learners.test_fsdp2 import ALPHA, BETA, batch, model, old_logprobs, parts, plain_loss
from tests.backends.learners.test_sharding import (
    COMPILED,
    OPTIMIZER,
    STEPS,
    WAYS,
    apart,
    before_each_step,
    same_on_all_ranks,
)

LORA = LoraConfig(rank=4, alpha=6.0, targets=["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"])
SHARDED = ("fsdp2", "hsdp 2x1", "fsdp2 offloaded", "zero 1", "zero 2", "zero 3", "zero 3 offloaded")
ON_ONE = ("fsdp2", "zero 1", "zero 2", "zero 3")
HALF = {"compute": "bfloat16", "dtype": torch.bfloat16}


def learner(way: str, compute: str = "float32", dtype: torch.dtype = torch.float32, seed: int = 5) -> Any:
    settings = {"micro_batch_rows": 2, "head_chunk_tokens": 7, "optimizer": OPTIMIZER, **{**WAYS, **COMPILED}[way]}
    config = LearnerConfig(compute_dtype=compute, lora=LORA, **settings)
    algorithm, regularizer = ALGORITHMS["grpo"].build(GRPOConfig()), REGULARIZERS["srkl"].build(SRKLConfig(alpha=ALPHA))
    start = adapted(in_memory(model(1, torch.float32)), LORA, dtype, seed)
    return LEARNERS[config.backend](start, config, Objective(algorithm, regularizer, BETA, "full"), torch.device("cpu"))


def adapters(made: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in made.trained(torch.float32)}


def step(made: Any, number: int) -> dict[str, float]:
    rows = batch(torch.float32).with_streams(ref_hidden=None)
    with AdaptersOff().gathered(made, True) as add:
        found: dict[str, float] = made.update(rows, parts(rows, (STEPS[number],)), OPTIMIZER.lr, add_reference=add)
    return found


def gradient(shards: Any) -> dict[str, Tensor]:
    """Whole, as it is before a step, of every parameter that has one."""
    if isinstance(shards, fsdp2.FSDP2Shards):
        named = {name.removeprefix("model."): p for name, p in shards.policy.named_parameters()}
        return {name: p.grad.full_tensor().clone() for name, p in named.items() if p.grad is not None}
    from deepspeed.utils import safe_get_full_grad

    frozen = [name for name, p in shards._named.items() if not p.requires_grad and p.grad is not None]
    assert not frozen
    return {name: safe_get_full_grad(p).clone() for name, p in shards._named.items() if p.requires_grad}


# ---- in the ranks ---------------------------------------------------------------------------------------------


def trained(way: str) -> dict[str, Any]:
    """Adapters at the start, before the third step and after it, that step's gradient, and its whole weights."""
    made, gradients = learner(way), []
    first = adapters(made)
    step(made, 0)
    step(made, 1)
    before = adapters(made)
    with before_each_step(made.shards, lambda: gradients.append(gradient(made.shards))):
        metrics = step(made, 2)
    after = adapters(made)
    whole = {name: tensor.clone() for name, tensor in made.source(torch.float32)}
    told = [(meta.name, meta.shape) for meta in made.source(torch.float32).metadata()]
    assert told == [(name, tuple(tensor.shape)) for name, tensor in whole.items()]
    return {
        "first": first, "before": before, "after": after, "gradient": gradients[0], "whole": whole,
        "norm": metrics["train/grad_norm"], "same": same_on_all_ranks(after),
    }  # fmt: skip


def switched_off(way: str, compute: str = "float32", dtype: torch.dtype = torch.float32) -> dict[str, bool]:
    """The reference after steps, against the class that a reference's actor runs on the files' weights."""
    made, rows = learner(way, compute, dtype), batch(torch.float32).with_streams(ref_hidden=None)
    step(made, 0)
    plain = model(1, torch.float32)
    for parameter in plain.parameters():  # and not buffers, as its actor does
        parameter.data = parameter.data.to(dtype)
    base = FrozenPolicy(plain, 7)
    with torch.no_grad():
        on = made.shards.policy(rows, None, False)["logprobs_N"]
    hidden, logprobs = made.scores_of_base(rows, True), made.scores_of_base(rows, False)
    return {
        "hidden states are the base's": torch.equal(hidden, base.scores(rows, True)),
        "log-probs are the base's": torch.equal(logprobs, base.scores(rows, False)),
        "adapters are on again": bool((on - logprobs).abs().max() > 1e-2),
    }


def saved(place: Path, ways: tuple[str, ...], **half: Any) -> dict[str, tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Two steps, a checkpoint, one more: the adapters at the checkpoint and at the end."""
    found = {}
    for way in ways:
        made = learner(way, **half)
        step(made, 0)
        step(made, 1)
        made.save(place / way)()
        at = adapters(made)
        step(made, 2)
        found[way] = at, adapters(made)
    return found


def resumed(place: Path, way: str, **half: Any) -> tuple[str, dict[str, Tensor], dict[str, Tensor]]:
    """From a learner that begins with other adapters."""
    made = learner(way, seed=6, **half)
    told = made.load(place)
    at = adapters(made)
    step(made, 2)
    return told, at, adapters(made)


def all_that_two_ranks_are_asked(place: Path) -> dict[str, Any]:
    """In one start of the processes, since that takes longer than all of it."""
    fsdp2.SMALLEST_UNIT = 0  # as large models are: layer by layer
    found: dict[str, Any] = {"trained": {way: trained(way) for way in SHARDED}}
    found["off"] = {way: switched_off(way) for way in ON_ONE} | {"half": switched_off("zero 3", **HALF)}
    found["saved"] = saved(place / "two", ON_ONE)
    found["resumed"] = {way: resumed(place / "two" / way, way) for way in ON_ONE}
    found["one to two"] = {way: resumed(place / "one" / way, way) for way in ON_ONE}
    found["crossed"] = {
        (old, new): resumed(place / "two" / old, new) for old, new in (("fsdp2", "zero 3"), ("zero 3", "fsdp2"))
    }
    return found


@pytest.fixture(scope="module")
def one_group() -> Iterator[None]:
    with alone():
        yield


@pytest.fixture(scope="module")
def by_one(tmp_path_factory: pytest.TempPathFactory, one_group: None) -> tuple[Path, Any]:
    place = tmp_path_factory.mktemp("adapters")
    return place, saved(place / "one", ON_ONE)


@pytest.fixture(scope="module")
def by_two(by_one: Any) -> dict[str, Any]:
    found: dict[str, Any] = on_ranks(2, all_that_two_ranks_are_asked, by_one[0])
    return found


# ---- a plain peft model ---------------------------------------------------------------------------------------


def peft_model(tensors: dict[str, Tensor], dtype: torch.dtype = torch.float64) -> Any:
    """The base model with these adapters, put together by peft alone."""
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model, set_peft_model_state_dict

    config = PeftConfig(r=LORA.rank, lora_alpha=LORA.alpha, target_modules=LORA.targets)  # type: ignore[arg-type]
    made = get_peft_model(model(1, dtype), config)
    refused = set_peft_model_state_dict(made, {PREFIX + name: tensor for name, tensor in tensors.items()})
    assert not refused.unexpected_keys
    return made


def plain_gradient(tensors: dict[str, Tensor], part: tuple[int, ...]) -> dict[str, Tensor]:
    network, reference, rows = peft_model(tensors), model(1, torch.float64), batch(torch.float64)
    plain_loss(network, reference, rows, part, old_logprobs(network, rows), "full").backward()
    named = ((name.removeprefix(PREFIX), parameter) for name, parameter in network.named_parameters())
    return {name: parameter.grad for name, parameter in named if parameter.grad is not None}


def assert_as_plainly(found: dict[str, Any]) -> None:
    expected = plain_gradient(found["before"], STEPS[2])
    assert all(is_adapter(name) for name in found["gradient"]), "nothing else has one"
    assert apart(found["gradient"], expected) < 1e-5
    assert min(float(tensor.abs().max()) for tensor in expected.values()) > 1e-4, "A and B of every layer take part"
    norm = sum(float(tensor.square().sum()) for tensor in expected.values()) ** 0.5
    assert found["norm"] == pytest.approx(norm, rel=1e-5)
    assert found["same"]


# ---- tests ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ON_ONE)
def test_gradients_are_those_of_a_plain_peft_model(one_group: None, way: str) -> None:
    assert_as_plainly(trained(way))


@pytest.mark.long
@pytest.mark.parametrize("way", COMPILED)
def test_gradients_of_compiled_layers_are_the_same(one_group: None, way: str) -> None:
    assert_as_plainly(trained(way))
    assert switched_off(way)["adapters are on again"]


@pytest.mark.slow
@pytest.mark.parametrize("way", SHARDED)
def test_pitfall_02_gradients_on_two_ranks_are_those_of_a_plain_peft_model(by_two: Any, way: str) -> None:
    assert_as_plainly(by_two["trained"][way])


def test_adapters_begin_alike_for_every_backend_and_follow_the_seed(one_group: None) -> None:
    first, second, other = adapters(learner("fsdp2")), adapters(learner("zero 3")), adapters(learner("fsdp2", seed=6))
    assert list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)
    drawn = [name for name in first if "lora_A" in name]
    assert all(bool((first[name] == 0).all()) for name in first if name not in drawn)
    assert not any(torch.equal(first[name], other[name]) for name in drawn)
    assert len({float(first[name].flatten()[0]) for name in drawn}) == len(drawn), "each its own"
    for name in drawn:
        bound = first[name].shape[1] ** -0.5
        assert 0.8 * bound < float(first[name].abs().max()) <= bound


@pytest.mark.parametrize("way", ON_ONE)
def test_the_models_own_weights_stay_and_are_merged_with_the_product(one_group: None, way: str) -> None:
    found, own = trained(way), dict(model(1, torch.float32).named_parameters())
    assert set(found["whole"]) == set(own)
    for name, parameter in own.items():
        module = name.removesuffix(".weight")
        expected = parameter.detach()
        if f"{module}.lora_A.weight" in found["after"]:
            product = found["after"][f"{module}.lora_B.weight"] @ found["after"][f"{module}.lora_A.weight"]
            expected = expected + LORA.alpha / LORA.rank * product
            assert float((found["whole"][name] - parameter.detach()).abs().max()) > 1e-3, name
        torch.testing.assert_close(found["whole"][name], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("way", ON_ONE)
def test_with_adapters_off_every_bit_is_the_bases(one_group: None, way: str) -> None:
    assert all(switched_off(way).values())


@pytest.mark.parametrize("way", ["fsdp2", "zero 2"])
def test_with_adapters_off_every_bit_is_the_bases_in_bfloat16(one_group: None, way: str) -> None:
    assert all(switched_off(way, **HALF).values())


@pytest.mark.slow
@pytest.mark.parametrize("way", [*ON_ONE, "half"])
def test_with_adapters_off_every_bit_is_the_bases_on_two_ranks(by_two: Any, way: str) -> None:
    assert all(by_two["off"][way].values())


def test_in_bfloat16_frozen_weights_have_no_float32_copy(one_group: None) -> None:
    policy = learner("fsdp2", **HALF).shards.policy
    kept = {(is_adapter(name), p.dtype, p.requires_grad) for name, p in policy.named_parameters()}
    assert kept == {(True, torch.float32, True), (False, torch.bfloat16, False)}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return list(found) == list(expected) and all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("way", ON_ONE)
def test_a_resumed_learner_goes_on_to_the_last_bit_from_adapters_alone(by_one: Any, way: str) -> None:
    place, runs = by_one
    told, at, end = resumed(place / "one" / way, way)
    assert told == "" and same(at, runs[way][0]) and same(end, runs[way][1])
    assert not same(at, end)


@pytest.mark.slow
@pytest.mark.parametrize("way", ON_ONE)
def test_adapters_are_resumed_on_two_ranks_from_two_and_from_one(by_one: Any, by_two: Any, way: str) -> None:
    at, end = by_two["saved"][way]
    assert same(by_two["resumed"][way][1], at) and same(by_two["resumed"][way][2], end)
    told, from_one, after = by_two["one to two"][way]
    assert told == "" and same(from_one, by_one[1][way][0]) and apart(after, by_one[1][way][1]) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("pair", [("fsdp2", "zero 3"), ("zero 3", "fsdp2")])
def test_the_other_backend_takes_over_the_adapters(by_two: Any, pair: tuple[str, str]) -> None:
    told, at, _ = by_two["crossed"][pair]
    assert "starts afresh" in told and same(at, by_two["saved"][pair[0]][0])


@pytest.mark.parametrize("way", ON_ONE)
def test_a_checkpoint_holds_adapters_and_their_moments_and_nothing_of_the_model(by_one: Any, way: str) -> None:
    folder = by_one[0] / "one" / way
    if way == "fsdp2":
        metadata = Reader(str(folder)).read_metadata().state_dict_metadata
        stored = {name: meta.size for name, meta in metadata.items() if hasattr(meta, "size")}
        weights = {name.removeprefix("model.model.") for name in stored if name.startswith("model.")}
    else:
        with safe_open(folder / "rank_00000.safetensors", "pt") as file:
            stored = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        weights = {name.removeprefix("weight/") for name in stored if name.startswith("weight/")}
    own = by_one[1][way][0]
    assert {on_its_way(name) for name in weights} == set(own) and all(is_adapter(name) for name in weights)
    numbers = sum(torch.Size(shape).numel() for shape in stored.values() if len(shape))
    assert numbers == 3 * sum(tensor.numel() for tensor in own.values())


def test_names_on_their_way_are_those_of_the_files(one_group: None) -> None:
    """What is sent of a layer has the name that the layer's weight has in a checkpoint, so that both are found."""
    made = learner("fsdp2")
    named = [name.removeprefix("model.") for name, _ in made.shards.policy.named_parameters()]
    plain = {on_its_way(name) for name in named if not is_adapter(name)}
    assert plain == set(dict(model(1, torch.float32).named_parameters()))
    assert {name.rsplit(".lora_", 1)[0] + ".weight" for name in adapters(made)} < plain
