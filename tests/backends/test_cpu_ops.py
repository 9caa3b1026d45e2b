"""The faster operations against the ones they replace: a whole model's outputs and gradients.

Not covered: how fast they are (`tests/benchmarks/`)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from carerl.backends import cpu_ops
from carerl.backends.models import make_model
from carerl.config.schema import ShapeConfig

SHAPES = {
    "qwen3": ShapeConfig(architecture="qwen3", num_kv_heads=1),
    "qwen2": ShapeConfig(architecture="qwen2", attention_bias=True, tie_embeddings=False),
    "llama": ShapeConfig(architecture="llama"),
}


def model(shape: ShapeConfig) -> Any:
    torch.manual_seed(3)
    made = make_model(shape, (1,))
    with torch.no_grad():  # norms of 1 and biases of 0 would hide a weight that is left out
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def outputs(made: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    ids = torch.randint(0, 64, (5, 17), generator=torch.Generator().manual_seed(1))
    logits = made(input_ids=ids).logits
    (logits.log_softmax(-1)[..., 3].sum() + logits.square().mean()).backward()
    return logits.detach(), {name: p.grad.clone() for name, p in made.named_parameters()}


@pytest.fixture
def rotary() -> Any:
    """Leaves the models' source files as they were."""
    import transformers.models.llama.modeling_llama as llama
    import transformers.models.qwen2.modeling_qwen2 as qwen2
    import transformers.models.qwen3.modeling_qwen3 as qwen3

    files = (llama, qwen2, qwen3)
    before = [getattr(f.apply_rotary_pos_emb, "behind", f.apply_rotary_pos_emb) for f in files]
    for file, own in zip(files, before, strict=True):
        file.apply_rotary_pos_emb = own
    yield
    for file, own in zip(files, before, strict=True):
        file.apply_rotary_pos_emb = own


@pytest.mark.parametrize("onednn", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_values_and_gradients_are_those_of_transformers(
    name: str, onednn: bool, rotary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_ops, "onednn_is_faster", lambda: onednn)
    logits, gradients = outputs(model(SHAPES[name]))
    fast = model(SHAPES[name])
    cpu_ops.speed_up(fast, torch.device("cpu"))
    fast_logits, fast_gradients = outputs(fast)
    nodes = {type(node).__name__ for node in _graph(fast)}
    assert {"_NormBackward", "_RotaryBackward"} <= nodes and ("_LinearBackward" in nodes) == onednn
    assert apart(fast_logits, logits) < 1e-5
    assert fast_gradients.keys() == gradients.keys()
    for key, gradient in gradients.items():
        assert apart(fast_gradients[key], gradient) < 1e-5, key


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """How far apart two tensors are, as a share of their size."""
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("architecture", ["cohere", "helium", "olmo2", "granite", "gemma2"])
def test_models_that_compute_something_else_under_the_same_names_are_left_as_they_are(architecture: str) -> None:
    """Cohere and Helium turn neighbours where the others turn halves; Gemma adds 1 to the weights of its norms."""
    config = AutoConfig.for_model(
        architecture, vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(1)
    made = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    logits, gradients = outputs(made)
    made.zero_grad()
    cpu_ops.speed_up(made, torch.device("cpu"))
    fast_logits, fast_gradients = outputs(made)
    assert apart(fast_logits, logits) < 1e-5
    assert all(apart(fast_gradients[name], gradient) < 1e-4 for name, gradient in gradients.items())


def _graph(made: Any) -> set[Any]:
    """All nodes of the backward pass of one forward pass."""
    seen: set[Any] = set()
    todo = [made(input_ids=torch.tensor([[1, 2, 3]])).logits.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [following for following, _ in node.next_functions]
    return seen


def test_the_derivatives_are_right_in_float64() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, 8, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: cpu_ops._Norm.apply(x, w, 1e-6), (x, weight))
    angles = torch.randn(1, 4, 4, dtype=torch.float64).repeat(1, 1, 2)
    assert torch.autograd.gradcheck(lambda x: cpu_ops._Rotary.apply(x, angles.cos(), angles.sin()), (x,))


def test_a_model_of_another_dtype_is_left_alone(rotary: Any) -> None:
    made = model(SHAPES["qwen3"]).bfloat16()
    cpu_ops.speed_up(made, torch.device("cpu"))
    assert not any("forward" in vars(module) for module in made.modules())


def test_a_forward_pass_in_bfloat16_is_transformers_own(rotary: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """FSDP2's mixed precision narrows the weights of a float32 model for the forward pass."""
    monkeypatch.setattr(cpu_ops, "onednn_is_faster", lambda: True)
    plain, fast = model(SHAPES["qwen3"]), model(SHAPES["qwen3"])
    cpu_ops.speed_up(fast, torch.device("cpu"))
    ids = torch.arange(12).reshape(2, 6)
    assert isinstance(plain, nn.Module)
    assert torch.equal(fast.bfloat16()(input_ids=ids).logits, plain.bfloat16()(input_ids=ids).logits)
