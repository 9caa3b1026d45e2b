"""The engines as a driver uses them, on the plain engine in this process: homes, order, stops, versions.

What an engine draws is ``backends/engines``'s."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from carerl.actors.handles.engines import Engines
from carerl.actors.workers.engine import EngineWorker, StaleWeights
from carerl.backends.engines import Request
from carerl.backends.models import save_model
from carerl.config.load import load
from carerl.tasks.tiny.tokenizer import EOS, make_tokenizer
from carerl.types import Sampling
from tests.actors.local import Local, without_ray
from tests.backends.engines.test_engines import fresh, weights

SAMPLING = Sampling(n=2, temperature=1.0, max_new_tokens=5, seed=4, stop_ids=(EOS,))
PROMPTS = [tuple(10 + (7 * i + j) % 50 for j in range(3 + i % 3)) for i in range(9)]
REQUESTS = [Request(40 - number, prompt) for number, prompt in enumerate(PROMPTS)]  # numbers fall


class Pool:
    """Two engines of one model; ``served``: the numbers of the requests that each got."""

    def __init__(self, model_dir: str) -> None:
        config = load(["recipe=care_grpo_tiny", "rollout.engine=hf", "rollout.max_batch_rows=4"])
        self.served: list[list[int]] = [[], []]
        self.engines = Engines([Local(EngineWorker(), self._noting(k)) for k in range(2)])
        self.engines.load(config, model_dir)
        self.engines.use_loaded()

    def _noting(self, engine: int) -> Any:
        def before(method: str, arguments: tuple[Any, ...]) -> None:
            if method == "submit":
                self.served[engine] += [request.number for request in arguments[0]]

        return before


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pool:
    without_ray(monkeypatch)
    model = fresh(31)
    save_model(tmp_path, model.config, weights(model), make_tokenizer())
    return Pool(str(tmp_path))


def test_completions_come_in_the_order_of_the_requests_whichever_engine_drew_them(pool: Pool) -> None:
    found = pool.engines.complete(REQUESTS, SAMPLING)
    assert [len(group) for group in found] == [2] * len(REQUESTS)
    assert all(len(served) in (4, 5) for served in pool.served), "work is dealt out evenly"
    for request, group in zip(REQUESTS, found, strict=True):
        ((alone, other),) = pool.engines.complete([request], SAMPLING)
        assert [alone.token_ids, other.token_ids] == [one.token_ids for one in group]


def test_requests_of_one_home_go_to_one_engine_now_and_later(pool: Pool) -> None:
    homes = [number % 3 for number in range(len(REQUESTS))]
    flow = pool.engines.flow()
    flow.submit(REQUESTS[:4], SAMPLING, homes[:4])
    ended = dict(flow.advance()())
    flow.submit(REQUESTS[4:], SAMPLING, homes[4:])
    assert flow.open == 5
    ended |= dict(flow.advance()())
    assert flow.open == 0 and set(ended) == {request.number for request in REQUESTS}
    engine = {number: k for k, served in enumerate(pool.served) for number in served}
    at = [{engine[r.number] for r, home in zip(REQUESTS, homes, strict=True) if home == wanted} for wanted in range(3)]
    assert [len(engines) for engines in at] == [1, 1, 1] and set().union(*at) == {0, 1}


def test_whoever_waits_can_stop_and_the_engines_forget_the_rest(pool: Pool) -> None:
    told: list[int] = []

    def go_on() -> bool:
        told.append(1)
        return len(told) < 2

    assert pool.engines.complete(REQUESTS, SAMPLING, go_on) == []
    assert len(told) == 2, "nine requests take each engine three batches"
    pool.engines.next_logprobs([])  # raises while a request has not ended
    assert len(pool.engines.complete(REQUESTS[:1], SAMPLING)) == 1


def test_a_flow_keeps_to_its_version_of_the_weights(pool: Pool) -> None:
    flow = pool.engines.flow()
    pool.engines.version = 3
    pool.engines.use_loaded()
    with pytest.raises(StaleWeights, match="version 3, asked for 0"):
        flow.submit(REQUESTS, SAMPLING)
    ((one, _),) = pool.engines.complete(REQUESTS[:1], SAMPLING)
    assert one.versions == (3, 3)


def test_likeliest_tokens_come_in_the_order_of_the_prefixes(pool: Pool) -> None:
    found = pool.engines.likeliest(PROMPTS, 3)
    assert [len(ranked) for ranked in found] == [3] * len(PROMPTS)
    for prompt, ranked in zip(PROMPTS, found, strict=True):
        assert pool.engines.likeliest([prompt], 3)[0] == [(t, pytest.approx(lp, abs=1e-6)) for t, lp in ranked]
    assert len({ranked[0] for ranked in found}) > 3
    assert pool.engines.likeliest([]) == []
