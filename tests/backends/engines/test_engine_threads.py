"""Threads of vLLM's process on a GPU and on the CPU, with a stand-in for its ``LLM`` that does what vLLM does to them
(vllm/utils/torch_utils.py, vllm/v1/worker/cpu_worker.py). The real engine on the CPU: ``e2e/test_threads.py``. Not
covered: the real one on a GPU.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from carerl.actors.workers.engine import EngineWorker
from carerl.backends.engines import vllm as vllm_engine
from carerl.config.load import load

RAYS = 4  # CPUs of the actor, which Ray writes into OMP_NUM_THREADS


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the stand-in saw. In vLLM a GPU's worker serves with one thread unless OMP_NUM_THREADS is set; the CPU's
    keeps what there is and lets nobody set another number."""
    seen: dict[str, Any] = {}
    module = ModuleType("vllm")
    real, before = torch.set_num_threads, torch.get_num_threads()

    class LLM:
        llm_engine = SimpleNamespace(
            abort_request=lambda requests: None, model_config=SimpleNamespace(get_vocab_size=lambda: 64)
        )

        def __init__(self, **settings: Any) -> None:
            seen["OMP_NUM_THREADS"], seen["at start"] = os.environ.get("OMP_NUM_THREADS"), torch.get_num_threads()
            if "gpu_memory_utilization" not in settings:
                monkeypatch.setattr(torch, "set_num_threads", lambda n: seen.setdefault("refused", n))
            elif "OMP_NUM_THREADS" not in os.environ:
                torch.set_num_threads(1)

    module.LLM = LLM  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setattr(vllm_engine, "check_weights", lambda *_: [])  # there are none
    monkeypatch.setattr(vllm_engine, "check_finite", lambda *_, **__: None)
    monkeypatch.setattr(vllm_engine, "receiving_backend", lambda config: "")  # the stand-in receives nothing
    monkeypatch.setenv("OMP_NUM_THREADS", str(RAYS))
    for name in ("VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_KVCACHE_SPACE", "VLLM_ENABLE_V1_MULTIPROCESSING"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    torch.set_num_threads(RAYS)  # as torch is imported with that variable
    yield seen
    real(before)


def built(*words: str) -> EngineWorker:
    config = load(["recipe=care_grpo_tiny", *words])
    worker = EngineWorker()
    worker.prepare(config)
    worker.load(config, str(Path("no model")))
    return worker


def test_on_a_gpu_the_engine_keeps_the_one_thread_that_vllm_serves_with(stand_in: dict[str, Any]) -> None:
    worker = built("rollout.gpus_per_actor=1", "rollout.cpus_per_actor=4")
    assert stand_in == {"OMP_NUM_THREADS": None, "at start": RAYS}
    assert worker.threads().count == torch.get_num_threads() == 1


def test_on_a_gpu_a_number_that_was_asked_for_is_passed_on(stand_in: dict[str, Any]) -> None:
    worker = built("rollout.gpus_per_actor=1", "rollout.threads=3")
    assert stand_in == {"OMP_NUM_THREADS": "3", "at start": 3}
    assert (worker.threads().count, worker.threads().asked) == (3, 3)


def test_on_the_cpu_threads_are_set_before_vllm_starts_and_not_after(stand_in: dict[str, Any]) -> None:
    worker = built("rollout.threads=2")
    assert stand_in == {"OMP_NUM_THREADS": "2", "at start": 2}  # and nothing was refused
    worker.load(load(["recipe=care_grpo_tiny", "rollout.threads=2", "seed=7"]), "no model")  # a sweep's next cell
    assert "refused" not in stand_in
    assert worker.threads().count == 2
