"""CaT on an enumerable chain: what the threshold does, what the budget bounds, and what the seeds hang on."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from carerl.inference.base import Decoded, Trace
from carerl.inference.confidence import RULES, spread_of_top
from carerl.inference.context import path_seed
from carerl.inference.methods import METHODS, cat
from carerl.tasks.tiny import tokenizer as tk
from carerl.tasks.tiny.steps import TinySplitter
from tests.inference.toy import DELIMITER, END, LIMIT, VOCAB, chain, context, decode, run

SEEDS = range(12)
THRESHOLDS = (0.0, 0.2, 0.35, 0.5, 0.7, 1.0, 1.5)


def alive(decoded: Decoded) -> list[int]:
    return [number for number, branch in enumerate(decoded.branches) if not branch.pruned]


@pytest.mark.parametrize("seed", SEEDS)
def test_without_a_threshold_and_with_one_branch_it_is_plain_sampling_token_for_token(seed: int) -> None:
    where = context(seed, budget=1, cat__threshold=0.0)
    (branch,) = run("cat", chain(seed), where).branches
    (plain,) = run("self_consistency", chain(seed), where).branches
    assert branch.token_ids == plain.token_ids
    assert not branch.pruned and branch.truncated == plain.truncated and branch.answer == plain.answer


@pytest.mark.parametrize("rule", RULES)
def test_a_pruned_root_is_the_beginning_of_the_plain_response_with_its_number(rule: str) -> None:
    """And it ends with the first step after which the confidence is too low."""
    found = 0
    for seed in SEEDS:
        where = context(seed, cat__threshold=0.45, cat__cumulative=rule, cat__reallocate=False)
        plain = run("self_consistency", chain(seed), where).branches
        tree = run("cat", chain(seed), where)
        for branch, whole in zip(tree.branches, plain, strict=True):
            if not branch.pruned:
                continue
            found += 1
            assert branch.token_ids == whole.token_ids[: len(branch.token_ids)]
            values = [
                confidence_so_far(branch.confidences, branch.steps, rule, n + 1) for n in range(len(branch.steps))
            ]
            assert [value < 0.45 for value in values] == [False] * (len(values) - 1) + [True]
    assert found > 10


def confidence_so_far(confidences, ends, rule: str, steps: int) -> float:
    lengths = [end - start for start, end in zip((0, *ends), ends, strict=False)][:steps]
    used = confidences[:steps]
    if rule == "mean":
        return sum(c * n for c, n in zip(used, lengths, strict=True)) / sum(lengths)
    product = 1.0
    for c in used:
        product *= c
    return product if rule == "product" else min(used)


@pytest.mark.parametrize("reallocate", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_above_one_those_are_left_that_ended_in_their_first_step_or_one_branch(seed: int, reallocate: bool) -> None:
    model = chain(seed)
    model.rows[:, 5] = 0.0  # every response that ends has an answer
    model.rows[2:, 0] += 0.3
    model.rows /= model.rows.sum(axis=1, keepdims=True)
    decoded = run("cat", model, context(seed, cat__threshold=1.5, cat__reallocate=reallocate, max_new_tokens=200))
    one_step = [n for n, b in enumerate(decoded.branches) if len(b.steps) == 1 and b.token_ids[-1] == END]
    assert alive(decoded) == one_step or (not one_step and len(alive(decoded)) == 1)
    assert decoded.winner in alive(decoded) and decoded.branches[decoded.winner].answer is not None


def test_the_last_live_branch_is_the_one_that_came_furthest_and_goes_on_without_a_floor() -> None:
    all_pruned = further = 0
    for seed in range(240):
        tree = run("cat", chain(seed), context(seed, budget=2, cat__threshold=0.38, max_new_tokens=60))
        if tree.facts["pruned"] < 1 or tree.rounds != 2 or tree.facts["forks"]:
            continue
        (left,) = alive(tree)
        branch, others = tree.branches[left], [b for n, b in enumerate(tree.branches) if n != left]
        values = [confidence_so_far(branch.confidences, branch.steps, "mean", n + 1) for n in range(len(branch.steps))]
        fell = next(n + 1 for n, value in enumerate(values) if value < 0.38)
        lasted = [len(b.steps) for b in others]
        assert fell >= max(lasted)
        ends = [confidence_so_far(b.confidences, b.steps, "mean", fell) for b in others if len(b.steps) == fell]
        assert all(values[fell - 1] >= end - 1e-9 for end in ends), "of equals the most confident"
        assert branch.token_ids[-1] == END or branch.truncated
        all_pruned, further = all_pruned + 1, further + (fell > min(lasted))
    assert all_pruned > 10 and further > 2


@pytest.mark.parametrize("seed", SEEDS)
def test_without_reallocation_live_branches_are_monotone_in_the_threshold(seed: int) -> None:
    counts, tokens, kept = [], [], None
    for threshold in THRESHOLDS:
        decoded = run("cat", chain(seed), context(seed, cat__threshold=threshold, cat__reallocate=False))
        counts.append(len(alive(decoded)))
        tokens.append(decoded.tokens)
        assert kept is None or set(alive(decoded)) <= kept
        kept = set(alive(decoded))
        assert len(decoded.branches) == 6
    assert counts == sorted(counts, reverse=True) and counts[0] == 6
    assert tokens[:-1] != [tokens[0]] * 6 or counts == [6] * 7


@pytest.mark.parametrize("top", [None, 3])
@pytest.mark.parametrize("rule", RULES)
def test_the_budget_is_kept_and_every_token_counts_once(rule: str, top: int | None) -> None:
    forks = deep = 0
    for seed in range(15):
        model = chain(seed, sharpness=2.5)
        model.top = top
        for threshold in THRESHOLDS:
            where = context(seed, cat__threshold=threshold, cat__cumulative=rule, max_new_tokens=12)
            decoded = run("cat", model, where)
            assert decoded.tokens == model.drawn == sum(b.own for b in decoded.branches) <= where.limit
            model.drawn = 0
            assert 1 <= len(alive(decoded)) <= 6 and decoded.facts["forks"] <= 6
            assert all(0 < b.own <= len(b.token_ids) <= 12 for b in decoded.branches)
            assert len({b.path for b in decoded.branches}) == len(decoded.branches)
            assert decoded.facts["pruned"] == len(decoded.branches) - len(alive(decoded))
            for branch in decoded.branches:
                shared, parent = len(branch.token_ids) - branch.own, decoded.branches[branch.parent]
                assert (shared == 0) == (branch.parent < 0) == (len(branch.path) == 1)
                if shared:  # it was forked after a step that its parent drew itself, not its last one
                    assert branch.token_ids[:shared] == parent.token_ids[:shared] and shared in parent.steps[:-1]
                    assert shared > len(parent.token_ids) - parent.own and branch.path[:-1] == parent.path
                    deep += len(branch.path) > 2
            forks += int(decoded.facts["forks"])
    assert forks > 50 and (deep > 0 or rule != "mean")


def test_a_fork_begins_at_the_most_confident_branch_after_as_many_steps_as_the_pruned_one_had() -> None:
    checked = 0
    for seed in range(80):
        tree = run("cat", chain(seed, sharpness=2.5), context(seed, cat__threshold=0.4))
        roots = tree.branches[:6]
        pruned = [b for b in roots if b.pruned]
        inner = [n for n, b in enumerate(roots) if not b.pruned and len(b.steps) > 1]
        if not pruned or not inner or len(tree.branches) == 6:
            continue
        payer, fork = pruned[0], tree.branches[6]
        cuts = {n: min(len(payer.steps), len(roots[n].steps) - 1) for n in inner}
        values = {n: confidence_so_far(roots[n].confidences, roots[n].steps, "mean", cuts[n]) for n in inner}
        assert values[fork.parent] == pytest.approx(max(values.values()), abs=1e-9)
        assert len(fork.token_ids) - fork.own == roots[fork.parent].steps[cuts[fork.parent] - 1]
        assert fork.path == (*roots[fork.parent].path, 1)
        checked += 1
    assert checked > 8


def test_equal_siblings_are_forked_by_path_and_not_by_rounding() -> None:
    """Sums of the same entropies in another order differ in their last digit."""
    nodes = [cat._Node((2,)), cat._Node((1,)), cat._Node((3,))]
    values = [0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1, 0.6 - 1e-12]
    assert values[0] > values[1]
    assert cat._most_confident(nodes, values) is nodes[1]
    assert cat._most_confident(nodes, [0.6, 0.6 - 1e-6, 0.1]) is nodes[0]


def test_a_result_depends_on_no_order_of_the_batch() -> None:
    """Twelve questions at once, their traces in shuffled orders, equal each question alone."""
    where = {seed: context(seed, cat__threshold=0.4) for seed in SEEDS}
    alone = {seed: run("cat", chain(seed), where[seed]) for seed in SEEDS}
    for shuffle in range(3):
        generator = random.Random(shuffle)
        methods = {seed: METHODS["cat"].build(where[seed]) for seed in sorted(SEEDS, key=lambda _: generator.random())}
        together = decode(methods, {seed: chain(seed) for seed in SEEDS}, order=generator.shuffle)
        assert together == alone
    assert sum(decoded.facts["forks"] for decoded in alone.values()) > 10


def test_seeds_follow_the_path_and_nothing_else() -> None:
    paths = [(n,) for n in range(40)] + [(n, m) for n in range(40) for m in range(12)] + [(0, 1, 2), (1, 0, 2)]
    assert len({path_seed(7, path) for path in paths}) == len(paths)
    asks = next(METHODS["cat"].build(context(7, budget=6, cat__threshold=0.4)))
    more = next(METHODS["self_consistency"].build(context(7, budget=9)))
    assert [ask.seed for ask in asks] == [ask.seed for ask in more[:6]] == [path_seed(7, (n,)) for n in range(6)]


def test_all_unparsed_is_unparsed() -> None:
    model = chain(3)
    model.rows[:, 2:5] = 0.0
    model.rows[:2, 5] = 1.0
    model.rows /= model.rows.sum(axis=1, keepdims=True)
    for name in METHODS:
        decoded = run(name, model, context(3, cat__threshold=0.3))
        assert decoded.winner == -1 and decoded.confidence == 0.0 and decoded.tokens > 0


@pytest.mark.parametrize("rule", RULES)
def test_a_learned_threshold_is_a_quantile_of_what_the_floor_judges(rule: str) -> None:
    """So that on the traces that it was learned on a floor with it ends that share, but for equal ones."""
    where = context(0, budget=200, cat__cumulative=rule)
    model = chain(5, sharpness=2.5)
    traces = [model.draw(ask) for ask in where.roots(0, 200)]
    least = []
    for trace in traces:
        branch = where.branch(where.ask((0,)), trace)
        judged = len(branch.steps) - (trace.token_ids[-1] != DELIMITER)
        values = [confidence_so_far(branch.confidences, branch.steps, rule, n + 1) for n in range(judged)]
        least += [min(values)] if values else []
    for quantile in (0.1, 0.3):
        learning = context(0, budget=200, cat__cumulative=rule, cat__quantile=quantile)
        threshold = cat.threshold_from(traces, learning)
        assert cat.learns(learning.decode) and threshold == pytest.approx(np.quantile(least, quantile), abs=1e-12)
        roots = run("cat", model, replace(learning, threshold=threshold)).branches[:200]
        assert sum(b.pruned for b in roots) == sum(value < threshold - 1e-9 for value in least)
        assert 0.5 * quantile * len(least) < sum(b.pruned for b in roots) < quantile * len(least) + 1
    one_step = [trace for trace in traces if DELIMITER not in trace.token_ids]
    assert cat.threshold_from(one_step, where) == 0.0 and one_step


@pytest.mark.parametrize("name", ["cat", "deepconf", "deepconf_offline", "self_certainty"])
def test_a_bounded_engine_tells_the_width_of_its_confidences_and_an_exact_one_tells_none(name: str) -> None:
    """The width is that of all drawn tokens, each once: the branches' own ones are drawn again here."""
    widths = []
    for top in (None, 4, 2):
        model = chain(4)
        model.top = top
        decoded = run(name, model, context(4, cat__threshold=0.4, deepconf__warmup=2))
        assert name != "cat" or decoded.facts["shared"] > 0, "or each token once is no question"
        own = []
        for branch in decoded.branches:
            before = [0, *branch.token_ids][len(branch.token_ids) - branch.own : -1] if branch.own else []
            own += [model.spread(last) for last in before]
        assert len(own) == decoded.tokens
        entropies = [sum(getattr(s, side) for s in own) / len(own) for side in ("entropy_low", "entropy_high")]
        width = (entropies[1] - entropies[0]) / np.log(VOCAB)
        assert decoded.facts["confidence_width"] == pytest.approx(width, abs=1e-12)
        widths.append(width)
    assert widths[0] == 0 < widths[1] < widths[2]


def test_a_threshold_is_not_learned_from_a_step_that_ends_the_response() -> None:
    """In the tiny world the end token ends a step, and no floor sees it: A r <eos> is the unsure one here."""
    spread = {
        sure: replace(spread_of_top([-1.0], VOCAB), entropy_low=(1 - sure) * np.log(VOCAB)) for sure in (0.9, 0.1)
    }
    spread = {sure: replace(one, entropy_high=one.entropy_low) for sure, one in spread.items()}
    ids = (tk.CAREFUL, tk.DIGIT, tk.DIGIT, tk.ANSWER, tk.DIGIT, tk.EOS)
    trace = Trace(ids, (0.0,) * 6, (spread[0.9],) * 3 + (spread[0.1],) * 3)
    where = context(0, splitter=TinySplitter(), stop_ids=frozenset({tk.EOS}))
    assert cat.threshold_from([trace], where) == pytest.approx(0.9)
    cut = replace(trace, token_ids=(*ids[:3], *ids[:3]), truncated=True)
    assert cat.threshold_from([cut], where) == pytest.approx(0.5), "what the length limit ended was judged"


def test_without_spreads_it_refuses_and_does_not_prune_nothing() -> None:
    where = context(0, cat__threshold=0.4)
    model = chain(0)
    for name in ("cat", "deepconf", "deepconf_offline", "self_certainty"):
        method = METHODS[name].build(where)
        asks = next(method)
        with pytest.raises(ValueError, match="0 spreads for"):
            method.send([replace(model.draw(ask), spreads=()) for ask in asks])
        method = METHODS[name].build(where)
        asks = next(method)
        bad = replace(spread_of_top([-1.0], VOCAB), entropy_high=float("nan"), certainty=float("nan"))
        with pytest.raises(ValueError, match="not finite"):
            method.send([replace(t := model.draw(ask), spreads=(bad,) * len(t.token_ids)) for ask in asks])


def test_responses_end_within_the_limit_and_truncated_ones_are_known() -> None:
    for seed in SEEDS:
        for branch in run("cat", chain(seed), context(seed, cat__threshold=0.3, max_new_tokens=8)).branches:
            if not branch.pruned:
                assert branch.truncated == (branch.token_ids[-1] != END) and (
                    not branch.truncated or len(branch.token_ids) == 8
                )
    assert LIMIT > 8


def test_a_response_that_ended_with_the_very_token_of_its_floor_is_not_pruned() -> None:
    where = context(0, budget=1, cat__threshold=1.5, stop_ids=frozenset({END}))
    drawn = (chain(0).draw(where.ask((number,))) for number in range(50))
    trace = replace(next(t for t in drawn if t.token_ids[-1] == END), floored=True)
    method = METHODS["cat"].build(where)
    next(method)
    with pytest.raises(StopIteration) as stop:
        method.send([trace])
    assert not stop.value.value.branches[0].pruned and stop.value.value.rounds == 1


class FirstStepIsLong:
    """The first step has three tokens, every other one has one: where a step ends depends on what came before."""

    def walk(self):
        seen = iter(range(10**6))
        return lambda token: next(seen) >= 2

    def split(self, token_ids):
        return tuple(range(min(3, len(token_ids)), len(token_ids) + 1)) if token_ids else ()


def test_a_fork_is_judged_by_the_steps_of_the_whole_response() -> None:
    forks = 0
    for seed in range(20):
        where = context(seed, cat__threshold=0.15, cat__cumulative="minimum", splitter=FirstStepIsLong())
        for branch in run("cat", chain(seed), replace(where, stop_ids=frozenset({END}))).branches:
            if branch.pruned:
                below = [end for end, value in zip(branch.steps, branch.confidences, strict=True) if value < 0.15]
                assert below == [len(branch.token_ids)]
                forks += branch.own < len(branch.token_ids)
    assert forks > 20
