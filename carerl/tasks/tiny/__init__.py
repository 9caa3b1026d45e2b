"""The tiny world: a synthetic task in which RL on arithmetic shows what happens to knowledge that it does not train.

Its base model trains in minutes on two cores. It learns four families of rows (:mod:`.corpus`): names with known answer
distributions (*facts*); made-up names (*unknowable*, mostly answered "?"); arithmetic answered mostly by a sloppy
method that computes ``*`` as ``+`` (*questions*); and arithmetic without noise under another tag, 70 % of it done right
(*textbook*).

RL rewards right answers to questions. The right method is in the model, at 2 % of the questions, and an RL run finds
it. The suites measure how far facts and unknowable names keep their calibration meanwhile (:mod:`.evaluation`): their
truth is known exactly.

Everything is a pure function of (seed, purpose, step); ``seed`` changes the world itself.
"""

from __future__ import annotations

from .config import TinyConfig
from .task import TinyTask

__all__ = ["TinyConfig", "TinyTask"]
