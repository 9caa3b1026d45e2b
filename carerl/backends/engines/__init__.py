"""Lists the rollout engines under the names that ``rollout.engine`` takes. A new one is a file
here, a line in the table, and its name in ``carerl.config.schema.RolloutConfig``, which may not import this room.

Each imports its library only when it is built: vLLM takes ten seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from carerl.config.schema import RunConfig

from .base import Engine, Query, Request, RequestsInFlight

__all__ = ["ENGINES", "Engine", "EngineEntry", "Query", "Request", "RequestsInFlight"]


@dataclass(frozen=True)
class EngineEntry:
    """A line of the table."""

    build: Callable[[RunConfig, str], Engine]
    """Builds the engine from the run's settings and a model directory."""

    prepare: Callable[[RunConfig], None] = lambda config: None
    """Does in advance what needs no model, such as slow imports, while the actor would wait."""


def _vllm(config: RunConfig, model_dir: str) -> Engine:
    from carerl.backends.engines.vllm import VLLMEngine

    return VLLMEngine(config, model_dir)


def _prepare_vllm(config: RunConfig) -> None:
    from carerl.backends.engines.vllm import prepare

    prepare(config)


def _hf(config: RunConfig, model_dir: str) -> Engine:
    from carerl.backends.engines.hf import HFEngine

    return HFEngine(config, model_dir)


ENGINES = {"vllm": EngineEntry(_vllm, _prepare_vllm), "hf": EngineEntry(_hf)}
