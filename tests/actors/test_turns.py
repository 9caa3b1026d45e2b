"""Whose turn it is on a shared GPU: every call in every phase, on the driver and on the actors, with a real engine.

The engine is transformers', whose weights are gone while it sleeps, on the CPU too. Not covered: the memory of GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from carerl.actors import crew
from carerl.actors.handles.engines import Engines
from carerl.actors.handles.learner import Learner
from carerl.actors.turns import ALLOWED, ASLEEP, AWAKE, PHASES, WEIGHTS, Turns, WrongTurn
from carerl.actors.workers.engine import EngineWorker, StaleWeights
from carerl.actors.workers.learner import LearnerWorker
from carerl.backends.engines import Query, RequestsInFlight
from carerl.backends.initial import init_tiny
from carerl.backends.models import make_model, save_model
from carerl.config.load import load
from carerl.loss.objective import Strengths
from carerl.loss.packing import pack_rows
from carerl.tasks.tiny.tokenizer import EOS, make_tokenizer
from carerl.types import Example, Sampling
from tests.actors.local import Local, without_ray
from tests.backends.engines.completions import requests
from tests.backends.learners.ranks import end_group

CONFIG = load(["recipe=care_grpo_tiny", "rollout.engine=hf", "regularizer.name=none", "cluster.placement=colocated"])
SAMPLING = Sampling(n=2, temperature=1.0, max_new_tokens=4, seed=3, stop_ids=(EOS,))
EXAMPLES = [Example(f"{k}", (10 + k, 11, 12), "") for k in range(3)]
QUERIES = [Query((10, 11, 12), (13, 14))]
# what the circle allows; any other pair is refused
DUE = {
    ("generate", AWAKE), ("sync", WEIGHTS), ("update", ASLEEP), ("wake_weights", ASLEEP), ("wake_cache", WEIGHTS),
    *(("sleep", phase) for phase in PHASES),
}  # fmt: skip


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("call", ALLOWED)
def test_each_call_is_refused_in_all_phases_but_its_own(call: str, phase: str) -> None:
    shared, apart = Turns(True, phase), Turns(False)
    apart.check(call)
    apart.done(call)
    assert apart.phase == AWAKE and not apart.due("sleep"), "an engine with a GPU of its own never sleeps"
    if (call, phase) in DUE:
        shared.check(call)
    else:
        with pytest.raises(WrongTurn, match=f"{call} is refused: .* call "):
            shared.check(call)


class Pair:
    """An engine and a rank that share, their handles, and all calls that reached the actors."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.engine, self.rank = EngineWorker(), LearnerWorker()
        self.learner = Learner([Local(self.rank, self._told("rank"))], 0.0)
        self.engines = Engines([Local(self.engine, self._told("engine"))], sharing=self.learner)

    def _told(self, who: str) -> Callable[[str, tuple[Any, ...]], None]:
        return lambda method, arguments: self.calls.append(f"{who}.{method}")

    def go_to(self, phase: str) -> None:
        """Brings both to a phase, from any other."""
        self.engines.sleep()
        if phase != ASLEEP:
            self.engines.wake_weights()
        if phase == AWAKE:
            self.engines.sync(self.learner, 1)
            self.engines.wake_cache()

    def update(self) -> None:
        held = self.learner.hold(BATCH)
        self.learner.update(held, 1e-3, Strengths())

    def asked_of(self, who: str) -> dict[str, Callable[[], Any]]:
        """Each call as the driver makes it, or straight to the actors as a driver would that has lost count."""
        if who == "driver":
            return {
                "generate": lambda: self.engines.generate(EXAMPLES, SAMPLING),
                "next_logprobs": lambda: self.engines.next_logprobs(QUERIES),
                "sync": lambda: self.engines.sync(self.learner, 2),
                "update": self.update,
                "sleep": self.engines.sleep,
                "wake_weights": self.engines.wake_weights,
                "wake_cache": self.engines.wake_cache,
            }
        return {
            "generate": lambda: self.engine.submit(requests([(10, 11, 12)]), SAMPLING, 1),
            "advance": lambda: self.engine.advance(0),
            "next_logprobs": lambda: self.engine.next_logprobs(QUERIES, 1),
            "sync": lambda: self.rank.send(),
            "update": lambda: self.rank.update(1e-3, None, False, [], "", BATCH),
            "sleep": self.engine.sleep,
            "wake_weights": self.engine.wake_weights,
            "wake_cache": self.engine.wake_cache,
        }


BATCH = pack_rows([(10, 11)], [(12, 13)])


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    without_ray(monkeypatch)
    monkeypatch.setattr(crew.ray, "put", lambda value: value)
    generator, threads = torch.Generator().manual_seed(1), torch.get_num_threads()
    model = make_model(CONFIG.model.shape, (EOS,), lambda made: init_tiny(made, generator))
    save_model(tmp_path, model.config, {n: p.detach() for n, p in model.named_parameters()}, make_tokenizer())
    made = Pair()
    try:
        made.engines.load(CONFIG, str(tmp_path))
        made.learner.load(CONFIG, str(tmp_path))
        made.engines.connect(made.learner, CONFIG)
        yield made
    finally:
        end_group()
        torch.set_num_threads(threads)


def weights_of(engine: EngineWorker) -> int:
    """Numbers that the engine has memory for."""
    return sum(parameter.numel() for parameter in engine._engine._model.parameters())


def test_an_engine_begins_asleep_and_its_weights_are_there_between_sync_and_sleep_alone(pair: Pair) -> None:
    assert (pair.engine._turns.phase, weights_of(pair.engine)) == (ASLEEP, 0)
    pair.go_to(WEIGHTS)
    whole = sum(p.numel() for p in pair.rank._learner.shards.policy.parameters())
    assert weights_of(pair.engine) == whole > 0
    pair.engines.sync(pair.learner, 1)
    pair.engines.wake_cache()
    before = pair.engines.generate(EXAMPLES, SAMPLING)
    pair.go_to(ASLEEP)
    assert weights_of(pair.engine) == 0
    pair.go_to(AWAKE)
    assert pair.engines.generate(EXAMPLES, SAMPLING) == before, "the same weights come with the sync"


@pytest.mark.parametrize("phase", PHASES)
def test_a_call_out_of_turn_is_refused_by_the_driver_before_it_reaches_an_actor(pair: Pair, phase: str) -> None:
    for call, make in pair.asked_of("driver").items():
        pair.go_to(phase)
        pair.calls.clear()
        if (call.replace("next_logprobs", "generate"), phase) in DUE:
            if call == "wake_cache":
                pair.engines.sync(pair.learner, 1)
            if call != "update":  # which has nothing to train here; a run does it
                make()
            continue
        with pytest.raises(WrongTurn, match=r"is refused: .* call "):
            make()
        assert pair.calls == []


@pytest.mark.parametrize("phase", PHASES)
def test_a_call_out_of_turn_is_refused_by_the_actor_too(pair: Pair, phase: str) -> None:
    for call, make in pair.asked_of("actor").items():
        pair.go_to(phase)
        own = {"advance": "generate", "next_logprobs": "generate"}.get(call, call)
        if (own, phase) in DUE or (call, phase) == ("update", ASLEEP):
            continue
        with pytest.raises(WrongTurn, match=r"is refused: .*(call|have it sleep)"):
            make()
        assert pair.engine._turns.phase == phase


def test_the_cache_stays_asleep_while_weights_are_not_whole(pair: Pair) -> None:
    """The driver is past a sync that it lost track of; the engine has seen none."""
    pair.go_to(WEIGHTS)
    with pytest.raises(StaleWeights, match="call sync"):
        pair.engine.wake_cache()
    pair.rank.send()
    with pytest.raises(StaleWeights, match="call sync"):
        pair.engine.wake_cache()  # sent, and not accepted
    pair.engines.sync(pair.learner, 1)
    pair.engines.wake_cache()
    assert pair.engine._turns.phase == AWAKE


def test_an_engine_with_open_requests_does_not_sleep(pair: Pair) -> None:
    pair.go_to(AWAKE)
    generation = pair.engines.start(SAMPLING)
    generation.submit(dict(enumerate(EXAMPLES)))
    with pytest.raises(RequestsInFlight, match="3 requests have not ended"):
        pair.engines.sleep()
    assert len(generation.advance()()) == 3
    pair.engines.sleep()


def test_the_rank_rests_before_the_engine_wakes_and_works_again_after_it_sleeps(pair: Pair) -> None:
    pair.calls.clear()
    pair.engines.wake_weights()
    assert pair.calls == ["rank.rest", "engine.wake_weights"]
    pair.engines.sync(pair.learner, 1)
    pair.engines.wake_cache()
    pair.learner.log_probs(pair.learner.hold(BATCH))  # a pass without a gradient
    pair.calls.clear()
    pair.engines.sleep()
    pair.engines.sleep()
    assert pair.calls == ["engine.sleep", "rank.resume"]


def test_a_learner_that_loads_again_finds_the_engines_asleep(pair: Pair) -> None:
    """As in a sweep, where the next run's base model is trained by the same ranks."""
    pair.go_to(AWAKE)
    pair.calls.clear()
    pair.learner.begin(CONFIG, pair.engine._model_dir)
    assert pair.calls[0] == "engine.sleep" and pair.calls[-1] == "rank.load"
    assert not pair.rank._resting
