"""The head's products in bfloat16 with float32 sums, against float64.

The CPU has no such product, so here it is formed from widened factors; all else is the code that a GPU runs. Not
covered: the product itself on a GPU, which the section ``head`` of ``python -m tests.gpu`` compares.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from carerl.loss import products
from carerl.loss.head import FactoredLogits, SoftTargets, TokenStatistics, token_statistics
from carerl.loss.products import Bfloat16Products, WideProducts, products_with
from carerl.regularizers import REGULARIZERS
from tests.allocations import allocations
from tests.loss.rounding import gradient_excess

D, K = 64, 3
VALUES = (
    "logprobs_N", "entropy_N", "ref_logprobs_N", "rkl_N", "divergence_N", "cross_entropy_N", "peak_N", "certainty_N",
)  # fmt: skip
LOSSES = {  # results in the loss
    "score": ("logprobs_N",),
    "entropy": ("logprobs_N", "entropy_N"),
    "full": ("divergence_N",),
    "targets": ("cross_entropy_N",),
    "all": ("logprobs_N", "entropy_N", "divergence_N", "cross_entropy_N"),
}
CASES = [(loss, temperature, 700) for loss in LOSSES for temperature in (1.0, 0.7)] + [("all", 0.9, 152_064)]


@pytest.fixture
def as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chooses the products that CUDA gets."""
    monkeypatch.setattr(products, "sums_bfloat16_in_float32", lambda device: True)


def inputs(tokens: int, vocabulary: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(*shape, generator=generator) * scale).bfloat16()

    ids_NK = torch.randint(0, vocabulary, (tokens, K), generator=generator)
    return {
        "hidden": normal(tokens, D),
        "head": normal(vocabulary, D, scale=4 / D**0.5),  # logits of ±4, as models have them
        "ref_hidden": normal(tokens, D),
        "ref_head": normal(vocabulary, D, scale=4 / D**0.5),
        "ids": ids_NK,
        "weights": torch.rand(tokens, K, generator=generator),
        "g": torch.randn(tokens, 4, generator=generator),
    }


def computed(
    x: dict[str, Tensor], names: tuple[str, ...], temperature: float, chunk: int = 3
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Values, and the gradients of hidden states and head of a loss of the named results, a weight for each token."""
    entry = REGULARIZERS["srkl"]
    leaves = [x[name].detach().requires_grad_() for name in ("hidden", "head")]
    found = token_statistics(
        FactoredLogits(*leaves, vocabulary=x["head"].shape[0] - 64),
        x["ids"][:, 0],
        temperature=temperature,
        chunk_tokens=chunk,
        reference=FactoredLogits(x["ref_hidden"], x["ref_head"]),
        exact=entry.build(entry.config(alpha=0.8)).exact,
        soft_targets=SoftTargets(x["ids"], x["weights"]),
        peaks=True,
    )
    loss = torch.stack([(x["g"][:, k] * getattr(found, name)).sum() for k, name in enumerate(names)]).sum()
    gradients = list(torch.autograd.grad(loss, leaves))
    return {name: getattr(found, name).detach() for name in VALUES}, gradients


def widened(x: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in x.items()}


@pytest.mark.parametrize(("loss", "temperature", "vocabulary"), CASES)
def test_values_and_gradients_are_those_of_float64(
    as_on_cuda: None, loss: str, temperature: float, vocabulary: int
) -> None:
    """From equal bfloat16 numbers: log-probs to 1e-5 nats, gradients to 2⁻¹⁴. Over 152,064 words torch's own float32
    log-softmax is 2e-5 off on the CPU, from whatever logits: there the wide products stand for float64, and the tests
    below have the products alone."""
    x, stand_in = inputs(8, vocabulary), torch.float32 if vocabulary > 100_000 else torch.float64
    values, gradients = computed(x, LOSSES[loss], temperature)
    wanted, exact = computed(widened(x, stand_in), LOSSES[loss], temperature)
    for name in VALUES:
        assert values[name].dtype == torch.float32
        assert (values[name] - wanted[name]).abs().max() <= 1e-5, name
    for ours, theirs in zip(gradients, exact, strict=True):
        assert ours.dtype == torch.bfloat16
        assert gradient_excess(ours, theirs) <= 2.0**-14


def test_logits_of_a_large_vocabulary_give_log_probs_to_1e_5() -> None:
    """With the log-softmax in float64, so that only the product counts. A bfloat16 result would be off by .06."""
    x = inputs(32, 152_064)
    exact_NV = (x["hidden"].double() @ x["head"].double().T).log_softmax(-1)
    logits_NV = Bfloat16Products(x["head"]).logits(x["hidden"])
    assert (logits_NV.double().log_softmax(-1) - exact_NV).abs().max() <= 1e-5
    assert (logits_NV.bfloat16().double().log_softmax(-1) - exact_NV).abs().max() > 1e-2


def high_term_only(self: Bfloat16Products, dz_CV: Tensor) -> Tensor:
    """A factor whose low term is missing."""
    high_CV = dz_CV.bfloat16()
    return torch.cat([high_CV, torch.zeros_like(high_CV)])


@pytest.mark.parametrize(("loss", "temperature", "vocabulary"), CASES)
def test_without_the_low_term_gradients_would_be_wrong(
    as_on_cuda: None, monkeypatch: pytest.MonkeyPatch, loss: str, temperature: float, vocabulary: int
) -> None:
    monkeypatch.setattr(Bfloat16Products, "factor", high_term_only)
    x = inputs(8, vocabulary)
    _, gradients = computed(x, LOSSES[loss], temperature)
    _, exact = computed(widened(x, torch.float64), LOSSES[loss], temperature)
    assert min(gradient_excess(*pair) for pair in zip(gradients, exact, strict=True)) > 2.0**-12


def test_each_gradient_before_its_rounding_is_right_to_two_to_the_minus_14(monkeypatch: pytest.MonkeyPatch) -> None:
    """The products' own float32 results, at 152,064 words, over two chunks that add to one buffer."""
    x = inputs(8, 152_064)
    generator = torch.Generator().manual_seed(1)
    p_NV = (x["hidden"].double() @ x["head"].double().T).softmax(-1)
    dz_NV = (p_NV * torch.randn(8, 1, generator=generator)).float()
    dz_NV[:, :3] += torch.randn(8, 3, generator=generator)

    def errors() -> tuple[float, float]:
        ours = Bfloat16Products(x["head"])
        d_hidden_ND, d_head_VD = torch.empty(8, D), torch.zeros(152_064, D)
        for part in (slice(0, 5), slice(5, 8)):
            factor = ours.factor(dz_NV[part].clone())
            ours.hidden_gradient(factor, d_hidden_ND[part])
            ours.add_head_gradient(factor, x["hidden"][part], d_head_VD)
        wide = dz_NV.double()
        exact = (wide @ x["head"].double(), wide.T @ x["hidden"].double())
        pairs = zip((d_hidden_ND, d_head_VD), exact, strict=True)
        of_hidden, of_head = (float((ours - theirs).norm() / theirs.norm()) for ours, theirs in pairs)
        return of_hidden, of_head

    assert max(errors()) <= 2.0**-14
    monkeypatch.setattr(Bfloat16Products, "factor", high_term_only)
    assert min(errors()) > 2.0**-11


def test_no_tokens_still_reach_every_parameter(as_on_cuda: None) -> None:
    values, gradients = computed(inputs(0, 700), LOSSES["all"], 0.7)
    assert all(value.shape == (0,) and value.dtype == torch.float32 for value in values.values())
    assert gradients[0].shape == (0, D) and torch.equal(gradients[1], torch.zeros(700, D, dtype=torch.bfloat16))


def test_only_bfloat16_in_both_is_left_as_it_is(as_on_cuda: None) -> None:
    """A mixture, float32, and whatever stands beside float64 are widened."""
    narrow, wide = (torch.ones(5, 4, dtype=dtype) for dtype in (torch.bfloat16, torch.float32))

    def chosen(weight_VD: Tensor, hidden_dtype: torch.dtype, result: torch.dtype = torch.float32) -> type[Any]:
        return type(products_with(weight_VD, hidden_dtype, result))

    assert chosen(narrow, torch.bfloat16) is Bfloat16Products
    others = [(wide, torch.float32), (wide, torch.bfloat16), (narrow, torch.float32), (narrow.half(), torch.float16)]
    assert {chosen(*other) for other in others} == {WideProducts}
    assert chosen(narrow, torch.bfloat16, torch.float64) is WideProducts


def test_only_cuda_has_such_products() -> None:
    found = {name: products.sums_bfloat16_in_float32(torch.device(name)) for name in ("cuda", "cpu", "mps", "meta")}
    assert found == {"cuda": True, "cpu": False, "mps": False, "meta": False}


def test_torch_takes_the_products_of_a_gpu() -> None:
    """Without one: torch's own checks of arguments, types and shapes, on tensors that have no numbers."""
    empty = torch.empty(0, device="meta")
    ours = Bfloat16Products(empty.new_empty(50, 8, dtype=torch.bfloat16))
    hidden_CD = empty.new_empty(6, 8, dtype=torch.bfloat16)
    assert ours.logits(hidden_CD).dtype == torch.float32
    factor = ours.factor(empty.new_empty(6, 50))
    ours.hidden_gradient(factor, empty.new_empty(6, 8))
    ours.add_head_gradient(factor, hidden_CD, empty.new_empty(50, 8))


@pytest.mark.parametrize(("loss", "most"), [("entropy", 3.5), ("all", 7.0)])
def test_memory_is_that_of_the_wide_products(
    as_on_cuda: None, monkeypatch: pytest.MonkeyPatch, loss: str, most: float
) -> None:
    """Tables of chunk × V at one time, without the widened factors by which the CPU forms a product."""
    monkeypatch.setattr(products, "_product", lambda a, b: torch.zeros(a.shape[0], b.shape[1]))
    monkeypatch.setattr(products, "_add_product", lambda total, a, b: None)
    x, chunk = inputs(64, 20_000), 16
    unit = 4 * chunk * 20_000
    found = allocations(lambda: computed(x, LOSSES[loss], 0.9, chunk))
    assert found.peak - 4 * 20_000 * D < most * unit, "beside the head's gradient"


def test_every_result_is_compared() -> None:
    assert set(VALUES) == set(TokenStatistics.__dataclass_fields__)
