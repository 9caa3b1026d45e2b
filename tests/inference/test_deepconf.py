"""DeepConf and self-certainty against enumerations, and the faults of DeepConf's code that these do not have."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from carerl.inference.config import DecodeConfig
from carerl.inference.floors import WindowFloor, lowest_group, tail_confidence
from carerl.inference.methods import METHODS, deepconf
from carerl.inference.methods.self_certainty import borda
from tests.inference.toy import VOCAB, chain, context, run


def confidences(spreads) -> np.ndarray:
    return np.array([-s.top_mean for s in spreads])


def naive_groups(spreads, window: int) -> np.ndarray:
    values = confidences(spreads)
    window = min(window, len(values))
    return np.array([values[k : k + window].mean() for k in range(len(values) - window + 1)])


def sharp(seed: int):
    """Shows two of six tokens, so that the confidences of tokens differ."""
    model = chain(seed, sharpness=2.5)
    model.top = 2
    return model


def test_groups_are_neighbouring_tokens() -> None:
    where, model = context(1, max_new_tokens=60), sharp(1)
    for ask in where.roots(0, 30):
        spreads = model.draw(ask).spreads
        for window in (1, 3, 7, 2048):
            assert lowest_group(spreads, window) == pytest.approx(naive_groups(spreads, window).min())
            assert tail_confidence(spreads, window) == pytest.approx(confidences(spreads)[-window:].mean())


def test_a_floor_ends_a_response_with_the_first_group_below_the_bar() -> None:
    where, model = context(2, max_new_tokens=60), sharp(2)
    ended = 0
    for number in range(40):
        plain = model.draw(where.ask((number,)))
        floored = model.draw(where.ask((number,), floor=WindowFloor(1.4, 4)))
        groups = naive_groups(plain.spreads, 4) if len(plain.token_ids) >= 4 else np.array([9.0])
        below = np.flatnonzero(groups < 1.4)
        assert floored.floored == bool(len(below))
        assert floored.token_ids == (plain.token_ids[: below[0] + 4] if len(below) else plain.token_ids)
        ended += floored.floored
    assert 5 < ended < 40


@pytest.mark.parametrize("seed", range(6))
def test_online_the_bar_is_a_quantile_of_the_warm_up_and_stopped_responses_cost_tokens_and_have_no_vote(seed) -> None:
    where = context(seed, budget=16, deepconf__warmup=5, deepconf__window=4, deepconf__quantile=0.5, max_new_tokens=40)
    model = sharp(seed)
    decoded = run("deepconf", model, where)
    plain = run("self_consistency", sharp(seed), where)
    traces = [sharp(seed).draw(ask) for ask in where.roots(0, 16)]
    lowest = [naive_groups(trace.spreads, 4).min() for trace in traces]
    assert decoded.facts["threshold"] == pytest.approx(np.quantile(lowest[:5], 0.5))
    for number, (branch, trace) in enumerate(zip(decoded.branches, traces, strict=True)):
        below = lowest[number] < decoded.facts["threshold"] - 1e-9
        assert branch.pruned == (below and number >= 5 and len(trace.token_ids) >= 4)
        assert branch.token_ids == trace.token_ids[: len(branch.token_ids)]
        assert (branch.weight == 0) == below and (below or branch.weight == pytest.approx(lowest[number]))
    assert decoded.tokens == model.drawn < plain.tokens
    assert decoded.facts["ended"] > 0 and decoded.facts["judged"] >= decoded.facts["ended"]
    voters = [b for b in decoded.branches if b.weight > 0 and b.answer is not None and not b.pruned]
    assert decoded.winner < 0 or not voters or decoded.branches[decoded.winner] in voters


def test_it_is_never_silently_off() -> None:
    """A group of 2,048 tokens is a quarter of the limit here; a warm-up that takes the whole budget is refused."""
    found = run("deepconf", sharp(3), context(3, budget=12, max_new_tokens=40))
    assert found.facts["window"] == 10 and found.facts["judged"] > 0
    settings = DecodeConfig(methods=["deepconf"], budget=10)
    run_of_any_kind = None
    assert list(settings.check(run_of_any_kind)) == []  # type: ignore[arg-type]
    settings.deepconf.warmup = 16
    (error,) = settings.check(run_of_any_kind)  # type: ignore[arg-type]
    assert error.field == "decode.deepconf.warmup" and "decode.deepconf.warmup=4" in str(error)
    settings.methods = ["cat"]
    assert list(settings.check(run_of_any_kind)) == []  # type: ignore[arg-type]


def test_a_bar_from_validation_needs_no_warm_up_and_one_response_always_ends() -> None:
    where = context(4, budget=8, deepconf__warmup=0, deepconf__window=3, max_new_tokens=40, threshold=99.0)
    assert METHODS["deepconf"].learns(where.decode)
    decoded = run("deepconf", sharp(4), where)
    assert decoded.facts["threshold"] == 99.0
    assert [b.pruned for b in decoded.branches] == [
        len(b.token_ids) == 3 and n > 0 for n, b in enumerate(decoded.branches)
    ]
    assert not decoded.branches[0].pruned and decoded.facts["ended"] >= 5
    traces = [sharp(4).draw(ask) for ask in where.roots(0, 8)]
    expected = np.quantile([naive_groups(t.spreads, 3).min() for t in traces], 0.1)
    assert deepconf.threshold_from(traces, where) == pytest.approx(expected)
    with pytest.raises(ValueError, match="needs traces"):
        deepconf.threshold_from([], where)


@pytest.mark.parametrize("measure", ["lowest", "tail", "mean"])
@pytest.mark.parametrize(("keep", "kept"), [(0.1, 1), (0.5, 5), (0.7, 7), (1.0, 10)])
def test_offline_the_most_confident_share_votes(measure: str, keep: float, kept: int) -> None:
    where = context(5, budget=10, deepconf__measure=measure, deepconf__keep=keep, deepconf__window=3)
    decoded = run("deepconf_offline", sharp(5), where)
    traces = [sharp(5).draw(ask) for ask in where.roots(0, 10)]
    by_measure = {
        "lowest": [naive_groups(t.spreads, 3).min() for t in traces],
        "tail": [confidences(t.spreads)[-3:].mean() for t in traces],
        "mean": [confidences(t.spreads).mean() for t in traces],
    }[measure]
    bar = sorted(by_measure)[-kept]
    voting = [n for n in range(10) if by_measure[n] >= bar - 1e-9]  # equals of the last one vote too
    assert len(voting) >= kept and [n for n in range(10) if decoded.branches[n].weight > 0] == voting
    assert all(decoded.branches[n].weight == pytest.approx(by_measure[n]) for n in voting)
    assert decoded.tokens == sum(len(t.token_ids) for t in traces)


def test_self_certainty_believes_the_most_certain_response_that_has_an_answer() -> None:
    passed_over = 0
    for seed in range(20):
        where, model = context(seed, budget=8), chain(seed, sharpness=2.5)
        decoded = run("self_certainty", model, where)
        certainty = [certainty_of(model, b.token_ids) for b in decoded.branches]
        assert [b.weight for b in decoded.branches] == pytest.approx(certainty)
        answered = [n for n, b in enumerate(decoded.branches) if b.answer is not None]
        if answered:
            best = max(answered, key=lambda n: (round(certainty[n], 9), -n))
            assert decoded.branches[decoded.winner].answer == decoded.branches[best].answer
            same = sum(certainty[n] for n in answered if decoded.branches[n].answer == decoded.branches[best].answer)
            assert decoded.confidence == pytest.approx(same / sum(certainty))
            passed_over += best != int(np.argmax(certainty))
    assert passed_over > 0


def certainty_of(model, token_ids) -> float:
    """Mean KL(uniform ‖ p) over the positions, straight from the chain's rows."""
    found = []
    for last in (0, *token_ids[:-1]):
        log_row = np.log(np.maximum(model.rows[last], math.exp(-100)))
        found.append(float(-math.log(VOCAB) - log_row.mean()))
    return float(np.mean(found))


def test_borda_votes_by_rank() -> None:
    assert borda([3.0, 1.0, 2.0], 1.0) == [3.0, 1.0, 2.0]
    assert borda([3.0, 1.0, 2.0], 2.0) == [9.0, 1.0, 4.0]
    assert borda([5.0, 5.0 + 1e-12, 1.0], 1.0) == [2.5, 2.5, 1.0], "equal ones share their ranks"
    where = context(2, budget=8, self_certainty__vote="borda", self_certainty__power=0.0)
    with_power_0 = run("self_certainty", chain(2), where)
    plain = run("self_consistency", chain(2), where)
    assert replace(with_power_0, facts={}) == replace(plain, facts={}), "power 0 is self-consistency"


def test_greedy_takes_the_likeliest_token_everywhere() -> None:
    model = chain(7)
    decoded = run("greedy", model, context(7))
    last = 0
    for token in decoded.branches[0].token_ids:
        assert model.rows[last][token] == model.rows[last].max()
        last = token
    assert len(decoded.branches) == 1 and decoded.confidence in (0.0, 1.0)
