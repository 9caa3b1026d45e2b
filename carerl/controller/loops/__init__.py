"""The loops, by kind of run: they train, once a run's actors have their weights.

Another loop is a file here and a line in the table. A plugin adds its line by ``LOOPS["name"] = Loop(…)``, and says in
``carerl.config.kinds.KINDS`` which actors and settings such a run needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from carerl.controller.context import Context
from carerl.controller.loops import caspo, finetune, rl, sft
from carerl.controller.profiling import Part


def _nothing(context: Context[Any], start: int) -> None:
    """Does nothing: the loop needs no beginning."""


@dataclass(frozen=True)
class Loop:
    """Holds what a kind of run does. Both functions are called with the context and the step that the run starts from.

    ``begin`` is called first, even if no step is left. ``train`` takes the steps that are left and returns the last
    step done. ``recorded``: the steps for which ``profile=true`` records where the time goes.
    """

    train: Callable[[Context[Any], int], int]
    begin: Callable[[Context[Any], int], None] = _nothing
    recorded: tuple[Part, ...] = ()


# The first steps are not recorded: things are imported, compiled and allocated in them. Supervised steps go 20 to a
# call.
LOOPS: dict[str, Loop] = {
    "rl": Loop(rl.train, rl.begin, (Part(3, 7, False), Part(8, 8, True))),
    "finetune": Loop(finetune.train, rl.begin, (Part(3, 7, False), Part(8, 8, True))),
    "caspo": Loop(caspo.train, rl.begin, (Part(1, 1, False), Part(2, 2, True))),
    "sft": Loop(sft.train, recorded=(Part(21, 60, False), Part(61, 80, True))),
}
