"""The rollout engines, by the name that ``rollout.engine`` has. A further one is a file here and a line in the table.

Each imports its library when it is built: vLLM takes ten seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from carerl.config.schema import RunConfig

from .base import Engine, Query, Request, RequestsInFlight

__all__ = ["ENGINES", "Engine", "EngineEntry", "Query", "Request", "RequestsInFlight"]


@dataclass(frozen=True)
class EngineEntry:
    """A line of the table. ``prepare`` does in advance what needs no model, such as imports of ten seconds, in the
    actor's process while it would wait."""

    build: Callable[[RunConfig, str], Engine]
    prepare: Callable[[RunConfig], None] = lambda config: None


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
