"""Chunked statistics against the naive computation, and the memory that they take.

The memory of what is built on them, learner, reference and engine, is in
``tests/backends/learners/test_head_memory.py``.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from carerl.inference.confidence import spreads_of
from carerl.loss.head import FactoredLogits, SoftTargets, TokenStatistics, token_statistics
from carerl.regularizers import REGULARIZERS
from tests.allocations import Allocations, allocations

N, V, D, K = 7, 13, 4, 3
REAL = V - 2  # rows of the head that are tokens; the others pad it
NAMES = tuple(TokenStatistics.__dataclass_fields__)
DIFFERENTIABLE = ("logprobs_N", "entropy_N", "divergence_N", "cross_entropy_N")


def skew(alpha: float = 0.8) -> Any:
    entry = REGULARIZERS["srkl"]
    return entry.build(entry.config(alpha=alpha)).exact


def inputs(n: int = N, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return {
        "hidden_ND": normal(n, D).requires_grad_(),
        "head_VD": normal(V, D).requires_grad_(),
        "target_ids_N": torch.randint(0, V, (n,), generator=generator),
        "ref_hidden_ND": normal(n, D),
        "ref_head_VD": normal(V, D),
        "ce_ids_NK": torch.randint(0, V, (n, K), generator=generator),
        "ce_weights_NK": torch.rand(n, K, generator=generator, dtype=torch.float64).to(dtype),
    }


def chunked(
    x: dict[str, Tensor],
    chunk: int,
    temperature: float = 1.0,
    exact: Any = None,
    peaks: bool = True,
    vocabulary: int = REAL,
) -> TokenStatistics:
    """The function under test, with what is there of the inputs."""
    return token_statistics(
        FactoredLogits(x["hidden_ND"], x["head_VD"], vocabulary),
        x["target_ids_N"],
        temperature=temperature,
        chunk_tokens=chunk,
        reference=FactoredLogits(x["ref_hidden_ND"], x["ref_head_VD"]) if "ref_head_VD" in x else None,
        exact=exact,
        soft_targets=SoftTargets(x["ce_ids_NK"], x["ce_weights_NK"]) if "ce_ids_NK" in x else None,
        peaks=peaks,
    )


def naive(x: dict[str, Tensor], temperature: float, alpha: float) -> dict[str, Tensor]:
    """The whole (N, V) tables at once, from the definitions."""
    p = (x["hidden_ND"] @ x["head_VD"].T / temperature).softmax(-1)
    r = (x["ref_hidden_ND"] @ x["ref_head_VD"].T / temperature).softmax(-1)
    real = p[:, :REAL] / p[:, :REAL].sum(-1, keepdim=True)
    rows = torch.arange(len(p))
    return {
        "logprobs_N": p[rows, x["target_ids_N"]].log(),
        "entropy_N": -(p * p.log()).sum(-1),
        "ref_logprobs_N": r[rows, x["target_ids_N"]].log(),
        "rkl_N": (p * (p / r).log()).sum(-1),
        "divergence_N": (p * (p / (alpha * p + (1 - alpha) * r)).log()).sum(-1),
        "cross_entropy_N": -(x["ce_weights_NK"] * p[rows[:, None], x["ce_ids_NK"]].log()).sum(-1),
        "peak_N": p.amax(-1).log(),
        "certainty_N": (1 / REAL * (1 / REAL / real).log()).sum(-1),
    }


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("chunk", [1, 2, 3, N - 1, N, N + 1, 1000])
def test_pitfall_07_chunked_equals_naive_at_every_temperature(chunk, temperature):
    x = inputs()
    ours = chunked(x, chunk, temperature, skew())
    expected = naive(x, temperature, alpha=0.8)
    leaves = [x["hidden_ND"], x["head_VD"]]
    for name in NAMES:
        value = getattr(ours, name)
        torch.testing.assert_close(value, expected[name], rtol=1e-10, atol=1e-13)
        assert value.requires_grad is (name in DIFFERENTIABLE), name
    weights = torch.rand(N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for name in DIFFERENTIABLE:
        mine = torch.autograd.grad((weights * getattr(ours, name)).sum(), leaves, retain_graph=True)
        theirs = torch.autograd.grad((weights * expected[name]).sum(), leaves, retain_graph=True)
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", sorted(set(REGULARIZERS) - {"none"}))
@pytest.mark.parametrize("temperature", [0.6, 1.0])
def test_the_gradient_of_every_divergence_is_the_numerical_one(name, temperature):
    """With log-probs, entropy and cross-entropy in the same loss, as they share the backward pass."""
    x, entry = inputs(), REGULARIZERS[name]
    settings = {"alpha": 0.3} if hasattr(entry.config(), "alpha") else {}
    exact = entry.build(entry.config(**settings)).exact

    def loss(hidden_ND, head_VD):
        found = chunked({**x, "hidden_ND": hidden_ND, "head_VD": head_VD}, 3, temperature, exact)
        return tuple(getattr(found, stream) for stream in DIFFERENTIABLE)

    assert torch.autograd.gradcheck(loss, (x["hidden_ND"], x["head_VD"]))


def test_temperature_matters():
    """The test above would pass if both sides ignored the temperature; they do not."""
    x = inputs()
    hot, cold = (chunked(x, 3, t, skew()) for t in (1.0, 0.6))
    for name in NAMES:
        assert (getattr(hot, name) - getattr(cold, name)).abs().max() > 0.05, name


def test_what_is_not_asked_for_is_none():
    x = inputs()
    alone = {name: x[name] for name in ("hidden_ND", "head_VD", "target_ids_N")}
    plain = chunked(alone, 2, peaks=False, vocabulary=0)
    assert [name for name in NAMES if getattr(plain, name) is not None] == ["logprobs_N", "entropy_N"]
    x.pop("ce_ids_NK"), x.pop("ce_weights_NK")
    with_ref = chunked(x, 2, peaks=False, vocabulary=0)
    found = [name for name in NAMES if getattr(with_ref, name) is not None]
    assert found == ["logprobs_N", "entropy_N", "ref_logprobs_N", "rkl_N"]


@pytest.mark.parametrize("chunk", [1, 5])
def test_no_tokens_still_reach_every_parameter(chunk):
    x = inputs(n=0)
    ours = chunked(x, chunk, exact=skew())
    assert all(getattr(ours, name).shape == (0,) for name in NAMES)
    for name in DIFFERENTIABLE:
        gradients = torch.autograd.grad(getattr(ours, name).sum(), [x["hidden_ND"], x["head_VD"]], retain_graph=True)
        assert gradients[0].shape == (0, D) and torch.equal(gradients[1], torch.zeros(V, D, dtype=torch.float64))


def test_bfloat16_is_computed_in_float32_also_under_autocast():
    """bfloat16 logits of size 20 would be off by .06; the sums are exact to float32 here."""
    x = {name: (v * 4 if name.endswith("D") else v) for name, v in inputs(dtype=torch.bfloat16).items()}
    expected = chunked({name: v.float() if v.is_floating_point() else v for name, v in x.items()}, 3, exact=skew())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = chunked(x, 3, exact=skew())
    for name in NAMES:
        assert getattr(ours, name).dtype == torch.float32, name
        torch.testing.assert_close(getattr(ours, name), getattr(expected, name), rtol=1e-5, atol=1e-5)
    coarse = (x["hidden_ND"] @ x["head_VD"].T).log_softmax(-1)
    rough = coarse.gather(-1, x["target_ids_N"][:, None])[:, 0].float()
    assert (rough - expected.logprobs_N).abs().max() > 0.01


def certainty(logits_NV: Tensor, vocab: int = 0, temperature: float = 1.0, chunk: int = 2) -> Tensor:
    """Of given logits: the hidden states are the unit matrix's rows, and the head is the table."""
    eye_NN = torch.eye(len(logits_NV), dtype=logits_NV.dtype)
    found = token_statistics(
        FactoredLogits(eye_NN, logits_NV.T.contiguous(), vocab or logits_NV.shape[1]),
        torch.zeros(len(logits_NV), dtype=torch.long),
        temperature=temperature,
        chunk_tokens=chunk,
    ).certainty_N
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ((0.5, 0.5), 0.0),
        ((0.2,) * 5, 0.0),
        ((0.9, 0.1), math.log(5 / 3)),  # −½ log(.9 · .1) − log 2 = .5108
        ((0.5, 0.25, 0.25), math.log(32) / 3 - math.log(3)),
    ],
)
def test_the_certainty_of_known_distributions(probabilities: tuple[float, ...], expected: float) -> None:
    """Whatever constant is added to the logits, as a head does."""
    logits = torch.tensor([probabilities], dtype=torch.float64).log()
    for shift in (0.0, -7.0, 50.0):
        assert float(certainty(logits + shift)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_certainty_is_finite_and_right_at_logits_of_a_hundred(dtype: torch.dtype) -> None:
    """A probability of e⁻²⁰⁰ is 0 in float32, and its logarithm −inf."""
    half = torch.tensor([[100.0, -100.0] * 4, [-100.0] * 8, [100.0] + [-100.0] * 7], dtype=dtype)
    found = certainty(half)
    assert found.dtype == torch.float32
    # logsumexp − mean − log 8: 100 + log 4 − 0 − log 8; 0; 100 + 75 − log 8
    assert found.tolist() == pytest.approx([100 - math.log(2), 0.0, 175 - math.log(8)], rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("filling", [-100.0, 0.0, 3.0, 100.0])
def test_rows_that_pad_the_head_change_nothing_of_certainty(filling: float) -> None:
    """Whatever they hold: the optimizer leaves noise there. Counted as tokens they would."""
    generator = torch.Generator().manual_seed(3)
    logits = 3 * torch.randn(6, 10, generator=generator, dtype=torch.float64)
    padded = torch.cat([logits, torch.full((6, 5), filling, dtype=torch.float64)], dim=1)
    torch.testing.assert_close(certainty(padded, 10), certainty(logits), rtol=1e-11, atol=1e-11)
    assert (certainty(padded, 15) - certainty(logits)).abs().min() > 0.1


def test_certainty_is_the_one_that_engines_give() -> None:
    """Engines compute it of log-probs, for votes among responses (:mod:`carerl.inference.confidence`)."""
    logits = 5 * torch.randn(9, 31, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    engines = [spread.certainty for spread in spreads_of((logits / 0.7).log_softmax(-1), 5)]
    assert certainty(logits, temperature=0.7, chunk=4).tolist() == pytest.approx(engines, rel=1e-12)


CASES: dict[str, tuple[tuple[str, ...], float]] = {  # results in the loss; most chunks of logits alive at one time
    "log-probs": (("logprobs_N",), 3.5),
    "entropy": (("logprobs_N", "entropy_N"), 3.5),
    "exact": (("divergence_N",), 7.0),
    "all": (("logprobs_N", "entropy_N", "divergence_N", "cross_entropy_N"), 7.0),
}


def allocated(tokens: int, vocabulary: int, chunk: int, names: tuple[str, ...], with_ref: bool) -> Allocations:
    """Forward and backward with a loss of the named results."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, 2, generator=generator, requires_grad=True)
    head = torch.randn(vocabulary, 2, generator=generator, requires_grad=True)
    ids = torch.randint(0, vocabulary, (tokens, K), generator=generator)
    x = {"hidden_ND": hidden, "head_VD": head, "target_ids_N": ids[:, 0]}
    x |= {"ce_ids_NK": ids, "ce_weights_NK": torch.ones(tokens, K)}
    if with_ref:
        x |= {"ref_hidden_ND": hidden.detach() + 1, "ref_head_VD": head.detach() + 1}

    def step() -> TokenStatistics:
        stats = chunked(x, chunk, 0.9, skew() if with_ref else None, vocabulary=vocabulary - 8)
        torch.stack([getattr(stats, name).sum() for name in names]).sum().backward()
        return stats  # alive during the backward pass, as in the learner

    return allocations(step)


@pytest.mark.parametrize("case", CASES)
def test_memory_follows_the_chunk_and_not_the_tokens(case):
    """Nothing larger than one chunk's logits is ever made, a handful of them live at one time, and 16 chunks need no
    more than 4: also where a result, as an entropy that is only reported, takes no part in the loss."""
    names, most = CASES[case]
    vocabulary, chunk = 5000, 16
    unit = 4 * chunk * vocabulary
    few, many = (allocated(n * chunk, vocabulary, chunk, names, "divergence_N" in names) for n in (4, 16))
    assert few.largest == many.largest == unit
    assert many.peak < most * unit
    assert many.peak - few.peak < 0.1 * unit
    whole = allocated(16 * chunk, vocabulary, 16 * chunk, names, "divergence_N" in names)
    assert whole.peak > 10 * many.peak, "without chunks it would be seen"


def test_without_gradients_nothing_is_recomputed_or_kept():
    x = inputs()
    with torch.no_grad():
        ours = chunked(x, 2, exact=skew())
    assert not any(getattr(ours, name).requires_grad for name in NAMES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": FactoredLogits(torch.zeros(N, D), torch.zeros(V + 1, D))}, "vocabularies"),
        ({"exact": skew()}, "exact"),
        ({"temperature": 0.0}, "temperature"),
        ({"chunk_tokens": 0}, "chunk_tokens"),
        ({"policy": FactoredLogits(torch.zeros(N, D), torch.zeros(V, D), V + 1)}, "14 tokens: the head has 13 rows"),
        ({"policy": FactoredLogits(torch.zeros(N, D), torch.zeros(V, D), -1)}, "-1 tokens"),
    ],
)
def test_bad_input_is_refused(change, message):
    x = inputs()
    policy = FactoredLogits(x["hidden_ND"], x["head_VD"])
    arguments: dict[str, Any] = {"policy": policy, "temperature": 1.0, "chunk_tokens": 2, **change}
    with pytest.raises(ValueError, match=message):
        token_statistics(target_ids_N=x["target_ids_N"], **arguments)
