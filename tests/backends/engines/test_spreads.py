"""Spreads, floors and likeliest tokens of the engines against the model that they hold.

The oracle is a plain forward pass of transformers in float64's softmax, and the same request without a floor. Not
covered: GPUs, where vLLM may have begun the step after a floor's token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from carerl.backends.engines import ENGINES, Engine, Request
from carerl.backends.models import save_model
from carerl.config.load import load
from carerl.records.spread import TokenSpread, Watcher
from carerl.tasks.tiny.tokenizer import EOS, make_tokenizer
from carerl.types import Completion, Sampling
from tests.backends.engines.test_engines import CONTEXT, PROMPTS, WORDS, fresh, weights
from tests.backends.transfer.sending import bring

TOP = 5
STOPS = (EOS, *range(12, 60, 6))  # many, so that some responses end by themselves
SAMPLING = Sampling(n=1, temperature=0.7, max_new_tokens=12, seed=3, stop_ids=STOPS)
ASKED = [Request(number, prompt, seed=1000 + number, top=TOP) for number, prompt in enumerate(PROMPTS)]


@dataclass(frozen=True)
class After:
    """A floor that lets ``tokens`` pass, and keeps what it was shown in a list of the test's."""

    tokens: int
    shown: list[list[tuple[int, TokenSpread]]]

    def watch(self) -> Watcher:
        seen: list[tuple[int, TokenSpread]] = []
        self.shown.append(seen)

        def watcher(token: int, spread: TokenSpread) -> bool:
            seen.append((token, spread))
            return len(seen) >= self.tokens

        return watcher


@pytest.fixture(scope="module")
def model() -> Any:
    """Its distributions are neither flat nor sharp."""
    made = fresh(21)
    with torch.no_grad():
        made.model.norm.weight.mul_(4.0)
    return made


@pytest.fixture(scope="module", params=["hf", pytest.param("vllm", marks=pytest.mark.engine)])
def engine(request: pytest.FixtureRequest, model: Any, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    directory = tmp_path_factory.mktemp("model")
    save_model(directory, model.config, weights(model), make_tokenizer())
    lengths = [f"model.shape.context_length={CONTEXT}", f"rollout.max_model_len={CONTEXT}"]
    return ENGINES[request.param].build(load(["recipe=care_grpo_tiny", *lengths]), str(directory))


def answers(engine: Engine, requests: list[Request], sampling: Sampling = SAMPLING) -> list[Completion]:
    """One completion of each request, in order."""
    engine.submit(requests, sampling)
    ended = dict(engine.advance())
    return [ended[request.number][0] for request in requests]


@torch.no_grad()
def distributions(model: Any, prompt: tuple[int, ...], response: tuple[int, ...], temperature: float) -> Tensor:
    """(T, V) log-probs, float64."""
    logits = model(torch.tensor([[*prompt, *response]])).logits[0, len(prompt) - 1 : -1].double()
    return (logits / temperature).log_softmax(-1)


def is_exact(engine: Engine) -> bool:
    return type(engine).__name__ == "HFEngine"


@pytest.mark.parametrize("temperature", [0.7, 1.6, 0.0])
def test_spreads_are_those_of_the_distribution_that_is_drawn_from(
    engine: Engine, model: Any, temperature: float
) -> None:
    """At temperature 0 of that at temperature 1. vLLM's interval holds the exact entropy between its ends, and the
    token that was drawn changes no mean: many of these are not among the likeliest."""
    outside = 0
    for request, found in zip(ASKED, answers(engine, ASKED, replace(SAMPLING, temperature=temperature)), strict=True):
        assert len(found.spreads) == len(found.token_ids) > 0
        logp_TV = distributions(model, request.prompt_ids, found.token_ids, temperature or 1.0)
        for token, spread, logp_V in zip(found.token_ids, found.spreads, logp_TV, strict=True):
            entropy = float(-(logp_V.exp() * logp_V).sum())
            best = logp_V.topk(TOP)
            outside += token not in best.indices
            certainty = -float(logp_V.mean()) - math.log(WORDS)
            assert spread.top_mean == pytest.approx(float(best.values.mean()), abs=2e-5)
            assert spread.peak == pytest.approx(float(best.values[0]), abs=2e-5)
            if is_exact(engine):
                assert spread.entropy_low == spread.entropy_high == pytest.approx(entropy, abs=2e-5)
                assert spread.certainty == pytest.approx(certainty, abs=2e-5)
            else:
                assert spread.entropy_low - 2e-5 < entropy < spread.entropy_high + 2e-5
                assert spread.certainty < certainty + 2e-5
    assert (outside > 2) == (temperature > 0), "a likeliest token is among the likeliest"


def test_an_engine_that_is_asked_for_the_whole_vocabulary_is_exact(engine: Engine, model: Any) -> None:
    """Also for more tokens than there are."""
    for top in (WORDS, WORDS + 9):
        whole = [replace(request, top=top) for request in ASKED[:3]]
        for request, found in zip(whole, answers(engine, whole), strict=True):
            logp_TV = distributions(model, request.prompt_ids, found.token_ids, SAMPLING.temperature)
            for spread, logp_V in zip(found.spreads, logp_TV, strict=True):
                entropy = float(-(logp_V.exp() * logp_V).sum())
                assert (spread.entropy_low, spread.entropy_high) == pytest.approx((entropy, entropy), abs=1e-4)


def test_spreads_are_for_requests_that_ask_and_change_no_token(engine: Engine) -> None:
    """Among others, and alone."""
    mixed = [replace(request, top=0) if request.number % 2 else request for request in ASKED]
    plain = [replace(request, top=0) for request in ASKED]
    found = answers(engine, mixed)
    assert [bool(one.spreads) for one in found] == [request.number % 2 == 0 for request in mixed]
    assert [one.token_ids for one in found] == [one.token_ids for one in answers(engine, plain)]
    for request, one in zip(mixed, found, strict=True):
        assert answers(engine, [replace(request, number=77)])[0].token_ids == one.token_ids, "its seed is its own"


def test_a_request_has_a_length_of_its_own(engine: Engine) -> None:
    whole = answers(engine, ASKED)
    lengths = [1 + request.number % 5 for request in ASKED]
    short = [replace(r, max_new_tokens=n, top=0) for r, n in zip(ASKED, lengths, strict=True)]
    for n, one, longer in zip(lengths, answers(engine, short), whole, strict=True):
        assert one.token_ids == longer.token_ids[:n]
        assert one.truncated == (len(longer.token_ids) > n or (longer.truncated and len(longer.token_ids) == n))


def steps_of(engine: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gets the tokens that vLLM has scheduled in each step from now on."""
    core = engine._llm.llm_engine.engine_core.engine_core
    scheduled: list[int] = []
    schedule = core.scheduler.schedule

    def counted(*arguments: Any) -> Any:
        planned = schedule(*arguments)
        scheduled.append(planned.total_num_scheduled_tokens)
        return planned

    monkeypatch.setattr(core.scheduler, "schedule", counted)
    return scheduled


def test_a_floor_ends_a_response_and_nothing_is_drawn_after(
    engine: Engine, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A floored response is the beginning of the same without a floor, whose seed it has. What vLLM schedules is the
    prompts, and one token for each that was drawn but the last."""
    whole = answers(engine, ASKED)
    shown: list[list[tuple[int, TokenSpread]]] = []
    cut = [replace(r, floor=After(2 + r.number % 4, shown)) for r in ASKED[::2]]
    others = [replace(r, number=100 + r.number) for r in ASKED[1::2]]
    scheduled = None if is_exact(engine) else steps_of(engine, monkeypatch)
    engine.submit([*cut, *others], SAMPLING)
    ended: dict[int, list[Completion]] = {}
    for _ in range(50):
        ended |= dict(engine.advance(1))
    floored = by_itself = 0
    for request, one, seen in zip(cut, (ended[r.number][0] for r in cut), shown, strict=True):
        longer, limit = whole[request.number], 2 + request.number % 4
        assert one.token_ids == longer.token_ids[:limit]
        assert one.logprobs == pytest.approx(longer.logprobs[:limit], abs=1e-5)
        assert one.floored == (len(longer.token_ids) > limit or longer.token_ids[-1] not in STOPS)
        assert not one.truncated and len(one.spreads) == len(one.token_ids)
        assert seen == list(zip(one.token_ids, one.spreads, strict=True))[: len(seen)]
        assert len(seen) == len(one.token_ids) - (not one.floored), "not about the token that ends it by itself"
        floored += one.floored
        by_itself += not one.floored
    assert floored > 1 and by_itself
    for request in others:
        assert ended[request.number][0].token_ids == whole[request.number - 100].token_ids, "the others go on"
        assert not ended[request.number][0].floored
    if scheduled is not None:
        drawn = sum(len(one.token_ids) - 1 for (one,) in ended.values())
        assert sum(scheduled) == drawn + sum(len(r.prompt_ids) for r in [*cut, *others])
    assert engine.advance() == []
    bring(engine, weights(model))  # vLLM refuses to forget its cache while a request holds a block of it


def test_a_floor_at_the_last_token_is_a_floor(engine: Engine) -> None:
    shown: list[list[tuple[int, TokenSpread]]] = []
    whole = answers(engine, ASKED)
    (number,) = [k for k, one in enumerate(whole) if one.truncated][:1]
    last, beyond = (answers(engine, [replace(ASKED[number], floor=After(n, shown))])[0] for n in (12, 13))
    assert last.token_ids == beyond.token_ids == whole[number].token_ids
    assert (last.floored, last.truncated) == (True, False)
    assert (beyond.floored, beyond.truncated) == (False, True)


def test_requests_with_a_floor_are_forgotten_like_others(engine: Engine, model: Any) -> None:
    shown: list[list[tuple[int, TokenSpread]]] = []
    cut = [replace(request, floor=After(1 + 10 * (request.number % 2), shown)) for request in ASKED]
    engine.submit(cut, SAMPLING)
    if not is_exact(engine):
        assert {number for number, _ in engine.advance(1)} >= set(range(0, len(cut), 2))
    engine.cancel()
    assert engine.advance() == []
    bring(engine, weights(model))
    assert [one.token_ids for one in answers(engine, cut)][1] == answers(engine, ASKED)[1].token_ids[:11]


@pytest.mark.parametrize(
    ("changes", "sampling", "reason"),
    [
        ({"floor": After(1, [])}, {"n": 2}, "for 2 responses"),
        ({"seed": 5}, {"n": 2}, "for 2 responses"),
        ({"floor": After(1, []), "top": 0}, {}, "asks for no spread"),
        ({}, {"top_p": 0.9}, "infinite"),
        ({}, {"top_k": 3}, "infinite"),
        ({"max_new_tokens": 13}, {}, "13 new tokens"),
        ({"max_new_tokens": 0}, {}, "0 new tokens"),
    ],
)
def test_a_request_that_cannot_be_served_as_it_is_meant_is_refused(
    engine: Engine, changes: dict[str, Any], sampling: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        engine.submit([replace(ASKED[0], **{"seed": None, **changes})], replace(SAMPLING, **sampling))
    assert engine.advance() == []


def test_the_likeliest_tokens_come_in_order_with_their_logprobs(engine: Engine, model: Any) -> None:
    for k in (1, 2, 7):
        for prompt, found in zip(PROMPTS, engine.likeliest(PROMPTS, k), strict=True):
            with torch.no_grad():
                best = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1).topk(k)
            assert [token for token, _ in found] == best.indices.tolist()
            assert [logprob for _, logprob in found] == pytest.approx(best.values.tolist(), abs=1e-5)
    assert engine.likeliest([], 2) == []


def test_of_equally_likely_tokens_the_lower_id_comes_first(engine: Engine, model: Any) -> None:
    """Also where more are equally likely than are asked for."""
    tied = fresh(21)
    with torch.no_grad():
        embedding = tied.model.embed_tokens.weight
        embedding[[9, 30, 12, 50]] = 6 * embedding[33].clone()
        embedding[[33, 60]] = 8 * embedding[33].clone()
    bring(engine, weights(tied))
    found = engine.likeliest(PROMPTS, 4)
    bring(engine, weights(model))
    for prompt, ranked in zip(PROMPTS, found, strict=True):
        with torch.no_grad():
            logp_V = tied(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
        rows = sorted(((round(-float(lp), 4), token) for token, lp in enumerate(logp_V.tolist())))
        assert [token for token, _ in ranked] == [token for _, token in rows[:4]]
