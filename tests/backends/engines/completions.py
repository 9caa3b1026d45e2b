"""What tests ask of an engine: completions of prompts, in order."""

from __future__ import annotations

from collections.abc import Sequence

from carerl.backends.engines.base import Engine, Request
from carerl.types import Completion, Sampling


def requests(prompts: Sequence[tuple[int, ...]], first: int = 0) -> list[Request]:
    return [Request(number, prompt) for number, prompt in enumerate(prompts, first)]


def complete(
    engine: Engine, prompts: Sequence[tuple[int, ...]], sampling: Sampling, first: int = 0
) -> list[list[Completion]]:
    """Of requests numbered from ``first``; the engine holds no others."""
    engine.submit(requests(prompts, first), sampling)
    ended = dict(engine.advance())
    assert sorted(ended) == list(range(first, first + len(prompts)))
    return [ended[number] for number in sorted(ended)]
