"""Draws one response, at temperature 0: the likeliest token everywhere. Its confidence is that of a vote of one: 1."""

from __future__ import annotations

from dataclasses import replace

from ..base import Method
from ..context import Context, decoded


def greedy(context: Context) -> Method:
    """Decodes greedily."""
    ask = replace(context.ask((0,)), temperature=0.0)
    (trace,) = yield [ask]
    return decoded([context.branch(ask, trace)], rounds=1)
