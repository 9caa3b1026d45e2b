"""The loops, by the kind of run: what a run does once its actors have their weights.

A further loop is a file here and a line in the table. A plugin adds its line by ``LOOPS["name"] = Loop(…)``, and says
in ``carerl.config.kinds.KINDS`` which actors and settings such a run needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from carerl.controller.context import Context
from carerl.controller.loops import rl, sft
from carerl.controller.profiling import Part


def _nothing(context: Context[Any], start: int) -> None:
    """Begins without ado."""


@dataclass(frozen=True)
class Loop:
    """What a kind of run does. Both functions are called with the context and the step that the run starts from.

    ``train`` takes the steps that are left and returns the last step done. ``begin`` comes before it, also where no
    step is left. ``recorded``: the steps of which ``profile=true`` records where the time goes.
    """

    train: Callable[[Context[Any], int], int]
    begin: Callable[[Context[Any], int], None] = _nothing
    recorded: tuple[Part, ...] = ()


# Not the first steps are recorded, in which things are imported, compiled and allocated. Supervised steps go 20 to a
# call.
LOOPS: dict[str, Loop] = {
    "rl": Loop(rl.train, rl.begin, (Part(3, 7, False), Part(8, 8, True))),
    "sft": Loop(sft.train, recorded=(Part(21, 60, False), Part(61, 80, True))),
}
