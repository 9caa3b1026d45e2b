"""Confidence against derived values, and bounds from the likeliest tokens against the whole distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from carerl.inference import confidence as c
from carerl.inference.floors import Groups, WindowFloor, token_confidence
from carerl.records.spread import TokenSpread


def logs(probabilities) -> torch.Tensor:
    return torch.tensor(probabilities, dtype=torch.float64).log()


@pytest.mark.parametrize(
    ("probabilities", "expected"),
    [
        ([0.25] * 4, 0.0),
        ([0.0, 1.0, 0.0, 0.0], 1.0),
        ([0.9, 0.1], 1 + (0.9 * math.log(0.9) + 0.1 * math.log(0.1)) / math.log(2)),  # .531
        ([0.5, 0.5, 0.0, 0.0], 0.5),  # log 2 / log 4
        ([1.0], 1.0),
    ],
)
def test_the_confidence_of_known_distributions(probabilities, expected: float) -> None:
    spread = c.spread_of(logs(probabilities), 20)
    assert c.step_confidence([spread], len(probabilities)) == pytest.approx(expected, abs=1e-12)
    assert c.step_confidence([c.spread_of(logs([0.9, 0.1]), 20)], 2) == pytest.approx(0.531, abs=5e-4)
    assert spread.entropy_low == spread.entropy_high >= 0 and all(
        map(math.isfinite, (spread.top_mean, spread.certainty, spread.peak))
    )


def test_a_steps_confidence_is_that_of_its_mean_entropy_and_the_middle_of_the_interval() -> None:
    spreads = [TokenSpread(0.2, 0.4, 0, 0, 0), TokenSpread(1.0, 1.2, 0, 0, 0), TokenSpread(0.0, 0.0, 0, 0, 0)]
    low, high = c.confidence_interval(spreads[:2], 10)
    assert (low, high) == (pytest.approx(1 - 0.8 / math.log(10)), pytest.approx(1 - 0.6 / math.log(10)))
    assert c.step_confidence(spreads[:2], 10) == pytest.approx((low + high) / 2)
    assert c.step_confidences(spreads, (2, 3), 10) == (pytest.approx((low + high) / 2), 1.0)


def distributions(count: int = 200):
    generator = np.random.default_rng(5)
    for number in range(count):
        vocab = int(generator.integers(2, 60))
        p = np.exp(generator.normal(size=vocab) * generator.choice([0.1, 1, 4, 12]))
        if number % 4 == 0:
            p[generator.random(vocab) < 0.5] = 0.0
            p[0] = 1.0
        yield p / p.sum(), int(generator.integers(1, vocab + 1))


def test_the_interval_from_the_likeliest_tokens_brackets_the_exact_entropy_and_closes() -> None:
    closed = 0
    for p, top in distributions():
        with np.errstate(divide="ignore"):
            logp = np.log(p)
        exact = c.spread_of(torch.from_numpy(logp), top)
        truth = -sum(x * math.log(x) for x in p if x > 0)
        assert exact.entropy_low == exact.entropy_high == pytest.approx(truth, abs=1e-12)
        bound = c.spread_of_top(sorted(logp.tolist(), reverse=True)[:top], len(p))
        assert bound.entropy_low - 1e-12 <= truth <= bound.entropy_high + 1e-12
        assert bound.entropy_high <= math.log(len(p)) + 1e-12
        assert bound.top_mean == pytest.approx(exact.top_mean) and bound.peak == pytest.approx(exact.peak)
        assert 0 - 1e-9 <= bound.certainty <= exact.certainty + 1e-9
        assert all(map(math.isfinite, (bound.certainty, bound.top_mean, bound.entropy_high)))
        if top == len(p) or sum(sorted(p)[::-1][:top]) >= 1:
            closed += 1
            assert bound.entropy_high - bound.entropy_low < 1e-12
    assert closed > 20


def test_the_interval_is_as_tight_as_the_likeliest_tokens_allow() -> None:
    """Both ends are reached: by a uniform tail, and by one that fills tokens up to the k-th probability."""
    p = [0.4, 0.2, 0.1, 0.1, 0.1, 0.1]  # after two: four tokens of .1
    wide = c.spread_of_top(np.log(p[:2]).tolist(), 6)
    assert wide.entropy_high == pytest.approx(-sum(x * math.log(x) for x in p))
    full = [0.4, 0.2, 0.2, 0.2, 0.0, 0.0]
    assert wide.entropy_low == pytest.approx(-sum(x * math.log(x) for x in full if x))
    assert c.spread_of_top(np.log([0.4, 0.2, 0.1]).tolist(), 6).certainty == pytest.approx(
        c.spread_of(logs([0.4, 0.2, 0.1, 0.1, 0.1, 0.1]), 3).certainty
    )


def test_rounding_of_the_tail_mass_changes_nothing() -> None:
    """float32 log-probs may add up to more than 1."""
    row = torch.randn(50, generator=torch.Generator().manual_seed(1)) * 6
    logp = torch.log_softmax(row, 0)
    likeliest = (logp.sort(descending=True).values + 2e-7).tolist()
    for top in (49, 50):
        assert sum(map(math.exp, likeliest[:top])) > 1
        bound = c.spread_of_top(likeliest[:top], 50)
        assert bound.entropy_low <= bound.entropy_high
        assert bound.entropy_high == pytest.approx(c.spread_of(logp.double(), 20).entropy_high, abs=1e-5)
        assert math.isfinite(bound.certainty)


def test_the_drawn_token_beside_the_likeliest_is_not_among_them() -> None:
    """With it there are 21 numbers, and their mean is another one."""
    logp = logs((np.arange(1, 31) / 465).tolist())
    likeliest = sorted(logp.tolist(), reverse=True)[:20]
    with_drawn = [*likeliest, logp[0].item()]
    assert c.spread_of_top(likeliest, 30).top_mean == pytest.approx(c.spread_of(logp, 20).top_mean)
    assert c.spread_of_top(with_drawn, 30).top_mean < c.spread_of(logp, 20).top_mean - 0.05
    for wrong in ([], [-3.0] * 31):
        with pytest.raises(ValueError, match="likeliest tokens of a vocabulary"):
            c.spread_of_top(wrong, 30)


def test_rows_of_a_batch_are_those_of_each_alone_in_any_dtype() -> None:
    logp_BV = torch.log_softmax(torch.randn(5, 40, generator=torch.Generator().manual_seed(2)) * 3, 1)
    for row, found in zip(logp_BV, c.spreads_of(logp_BV, 20), strict=True):
        assert found == c.spread_of(row, 20)
    assert isinstance(found.top_mean, float) and c.spreads_of(logp_BV[:0], 20) == []
    assert c.spread_of(row.to(torch.bfloat16), 20).entropy_low == pytest.approx(found.entropy_low, abs=0.1)


def test_a_token_that_cannot_be_drawn_does_not_stay_in_a_running_sum() -> None:
    """−inf among the likeliest: inf − inf is NaN, which is below no bar, so that nothing would ever be ended."""
    masked = c.spread_of_top([0.0] + [-math.inf] * 19, 100)
    assert masked.top_mean == pytest.approx(19 * c.LOWEST / 20)
    unsure = c.spread_of_top([math.log(0.05)] * 20, 100)
    watch = WindowFloor(bar=3.5, window=2).watch()
    assert [watch(7, s) for s in (masked, masked, unsure, unsure, unsure)] == [False, False, False, True, True]
    raw = TokenSpread(0, 0, -math.inf, 0, 0)  # from elsewhere
    groups = Groups(2)
    means = [groups.take(token_confidence(s)) for s in (raw, raw, unsure, unsure)]
    assert means == [None, 100.0, pytest.approx(50 + math.log(20) / 2), pytest.approx(math.log(20))]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("mean", [0.9, (0.9 * 2 + 0.5) / 3, (0.9 * 2 + 0.5 + 0.8 * 3) / 6]), ("product", [0.9, 0.45, 0.36]),
     ("minimum", [0.9, 0.5, 0.5])],
)  # fmt: skip
def test_cumulative_confidence(rule: str, expected: list[float]) -> None:
    states = c.cumulated((0.9, 0.5, 0.8), (2, 3, 6), rule)
    assert [state.value for state in states] == pytest.approx(expected)
    assert not c.Cumulative(rule).under(1.0) and states[1].under(expected[1] + 1e-6)
    assert not states[1].under(expected[1] + 1e-12), "rounding prunes nothing"
    with pytest.raises(ValueError, match="cumulative rule 'median'"):
        c.Cumulative("median").after(0.5, 1)


def test_siblings_of_one_token_are_equally_sure() -> None:
    """The entropy at a position does not depend on what is drawn there."""
    from tests.inference.toy import chain, context

    model, where = chain(4), context(4, budget=40, max_new_tokens=1)
    branches = [where.branch(ask, model.draw(ask)) for ask in where.roots(0, 40)]
    assert len({b.token_ids for b in branches}) > 2
    assert len({b.confidences for b in branches}) == 1
