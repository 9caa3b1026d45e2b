"""Methods of inference, one in each file. To add one, write its generator and add a line to :data:`METHODS`.

A method returns its branches without answers. Whoever grades them elects afterwards
(:func:`carerl.inference.election.elected`), so that a method needs no grader and answers are compared as the grader
compares them. [ours] No method stops on a consensus (DeepConf can): that would need answers while it draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..base import Method, Trace
from ..config import DecodeConfig
from ..context import Context
from . import cat, deepconf, deepconf_offline, greedy, self_certainty, self_consistency


def _vote(decode: DecodeConfig) -> str:
    return "vote"


def _nothing(decode: DecodeConfig) -> bool:
    return False


def _no_threshold(traces: Sequence[Trace], context: Context) -> float:
    raise ValueError("this method learns no threshold")


@dataclass(frozen=True)
class MethodEntry:
    """Holds one line of the table.

    ``build``: makes the method of one question. ``line``: for people. ``rule``: how its branches elect, of
    :data:`carerl.inference.election.RULES`. ``learns``: True where the settings leave its threshold to validation;
    then ``threshold_from`` computes it from plain traces (sampled as the method samples, no floor) of validation
    questions, and :attr:`Context.threshold` takes it to every question. ``exchangeable``: its branches may be taken in
    any order, so that a part of them is what a smaller budget would have drawn. ``samples``: it draws K responses at
    the temperature. ``reads_spreads``: it needs how spread the distribution of each token was.
    """

    build: Callable[[Context], Method]
    line: str
    rule: Callable[[DecodeConfig], str] = _vote
    learns: Callable[[DecodeConfig], bool] = _nothing
    threshold_from: Callable[[Sequence[Trace], Context], float] = _no_threshold
    exchangeable: bool = True
    samples: bool = True
    reads_spreads: bool = True


METHODS: dict[str, MethodEntry] = {
    "greedy": MethodEntry(
        greedy.greedy,
        "one response, the likeliest token everywhere",
        samples=False,
        reads_spreads=False,
    ),
    "self_consistency": MethodEntry(
        self_consistency.self_consistency,
        "K responses, the majority of their answers",
        reads_spreads=False,
    ),
    "self_certainty": MethodEntry(
        self_certainty.self_certainty,
        "K responses, the answer of the most certain one",
        rule=self_certainty.rule,
    ),
    "deepconf": MethodEntry(
        deepconf.deepconf,
        "K responses, of which unsure ones are ended early",
        learns=deepconf.learns,
        threshold_from=deepconf.threshold_from,
        exchangeable=False,
    ),
    "deepconf_offline": MethodEntry(
        deepconf_offline.deepconf_offline,
        "K responses, of which the confident ones vote",
    ),
    "cat": MethodEntry(
        cat.cat,
        "a tree of steps, pruned and forked by confidence",
        learns=cat.learns,
        threshold_from=cat.threshold_from,
        exchangeable=False,
    ),
}
"""The methods by the names that ``decode.methods`` gives them."""

__all__ = ["METHODS", "MethodEntry"]
