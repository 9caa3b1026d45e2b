"""A sync and its probe through the real workers in this process, and what ends a run.

The plain engine, without Ray; vLLM and Ray are in ``tests/e2e/test_pipeline.py``, the limits in
``tests/backends/learners/test_parity_limits.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from carerl.actors import crew
from carerl.actors.handles.engines import Engines
from carerl.actors.handles.learner import Learner
from carerl.actors.workers.engine import EngineWorker
from carerl.actors.workers.learner import LearnerWorker
from carerl.backends.initial import init_tiny
from carerl.backends.models import make_model, save_model
from carerl.config.load import load
from carerl.config.schema import RunConfig
from carerl.controller import weights
from carerl.tasks import TASKS
from carerl.tasks.tiny.tokenizer import EOS, make_tokenizer
from carerl.types import Example, Sampling
from tests.actors.local import Local, without_ray
from tests.backends.learners.parity_models import other_numbers
from tests.backends.learners.ranks import end_group
from tests.backends.transfer.sending import deliver


def config_of(*words: str) -> RunConfig:
    return load(["recipe=care_grpo_tiny", "rollout.engine=hf", "rollout.threads=1", "learner.threads=1", *words])


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Handles on one engine and one learner of the tiny shape."""
    without_ray(monkeypatch)
    monkeypatch.setattr(crew.ray, "put", lambda value: value)
    config, threads = config_of(), torch.get_num_threads()
    generator = torch.Generator().manual_seed(1)
    model = make_model(config.model.shape, (EOS,), lambda made: init_tiny(made, generator))
    save_model(tmp_path, model.config, {n: p.detach() for n, p in model.named_parameters()}, make_tokenizer())
    engines = Engines([Local(EngineWorker())])
    learner = Learner([Local(LearnerWorker())], 0)
    try:
        engines.load(config, str(tmp_path))
        learner.load(config, str(tmp_path))
        engines.connect(learner, config)
        yield SimpleNamespace(engines=engines, learner=learner)
    finally:
        end_group()
        torch.set_num_threads(threads)


def probe(found: Any, *words: str) -> dict[str, float]:
    config = config_of(*words)
    task = TASKS["tiny"].build(config.task, config.seed)
    task.attach(make_tokenizer())
    return weights.probe(found, task, config)


def test_a_probe_reports_three_statistics_and_passes_after_a_sync(found: Any) -> None:
    weights.synchronise(found, version=3)
    metrics = probe(found)
    assert set(metrics) == {"sync/probe_mean", "sync/probe_q999", "sync/probe_max"}
    assert 0 < metrics["sync/probe_mean"] < metrics["sync/probe_q999"] <= metrics["sync/probe_max"] < 1e-5


def test_pitfall_14_a_probe_names_what_is_wrong_and_by_how_much(found: Any) -> None:
    right = {name: tensor.clone() for name, tensor in found.learner.first.worker._learner.source(torch.float32)}
    found.engines._actors[0].worker.accept(
        deliver([found.engines._actors[0]], other_numbers(right, "model.layers.1.")), 4
    )
    found.engines.version = 4
    with pytest.raises(weights.ParityError, match=r"version 4 .* nats in the mean \(sync.probe_mean_abort: .*float32"):
        probe(found)
    assert probe(found, "sync.probe_mean_abort=50", "sync.probe_q999_abort=50")["sync/probe_mean"] > 1e-3
    with pytest.raises(weights.ParityError, match=r"99.9 % of the tokens \(sync.probe_q999_abort: "):
        probe(found, "sync.probe_mean_abort=50")


def test_a_probe_without_a_number_fails(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    weights.synchronise(found, version=1)
    score = found.learner.log_probs

    def one_is_nan(batch: Any) -> dict[str, torch.Tensor]:
        streams = score(batch)
        streams["logprobs"][-1, 0] = math.nan
        return streams

    monkeypatch.setattr(found.learner, "log_probs", one_is_nan)
    with pytest.raises(weights.ParityError, match="nan nats"):
        probe(found, "sync.probe_mean_abort=50", "sync.probe_q999_abort=50")


def test_every_engine_is_probed(found: Any) -> None:
    """Prompts are dealt out: with fewer of them than engines, some engine would never be compared."""
    asked = []
    start = found.engines.start

    def noted(sampling: Any) -> Any:
        generation = start(sampling)
        submit = generation.submit
        generation.submit = lambda examples: (asked.append(len(examples)), submit(examples))[1]
        return generation

    weights.synchronise(found, version=1)
    found.engines.start = noted
    probe(found, "sync.probe_prompts=2", "rollout.actors=3")
    probe(found, "sync.probe_prompts=4", "rollout.actors=3")
    assert asked == [3, 4]


def rollouts(mean: float, q999: float, largest: float) -> dict[str, float]:
    return {"rollout/mismatch_mean": mean, "rollout/mismatch_q999": q999, "rollout/mismatch_max": largest}


BF16 = ("model.dtype=bfloat16", "learner.compute_dtype=bfloat16")


@pytest.mark.parametrize(
    ("metrics", "words", "passes"),
    [
        (rollouts(1e-6, 1e-5, 2e-5), (), True),
        (rollouts(0.04, 0.165, 0.8), (), False),
        (rollouts(0.04, 0.165, 0.8), BF16, True),
        (rollouts(0.04, 0.165, 900.0), BF16, True),  # the largest is reported only
        (rollouts(0.8, 3.0, 5.0), BF16, False),
        (rollouts(0.8, 3.0, 5.0), (*BF16, "sync.mismatch_mean_abort=1"), False),
        (rollouts(0.8, 3.0, 5.0), (*BF16, "sync.mismatch_mean_abort=1", "sync.mismatch_q999_abort=4"), True),
        (rollouts(math.nan, math.nan, math.nan), BF16, False),
        ({}, (), True),  # every row was dropped: there is nothing to compare
    ],
)
def test_rollouts_far_from_the_learner_end_a_run(
    metrics: dict[str, float], words: tuple[str, ...], passes: bool
) -> None:
    config = config_of(*words)
    if passes:
        weights.check_rollouts(7, metrics, config)
        return
    with pytest.raises(weights.MismatchError, match=r"^step 7: .*sync.mismatch_mean_abort: "):
        weights.check_rollouts(7, metrics, config)


def test_responses_carry_the_versions_of_the_weights_that_made_them(found: Any) -> None:
    sampling = Sampling(n=2, temperature=1.0, max_new_tokens=2, seed=0)
    for version in (3, 8):
        weights.synchronise(found, version=version)
        (group,) = found.engines.generate([Example("e", (2, 3), "")], sampling)
        assert [sample.versions for sample in group.samples] == [(version, version)] * 2
        assert {sample.weight_version for sample in group.samples} == {version}
