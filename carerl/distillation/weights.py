"""Turns gains into weights: of the responses' policy terms, and of the traces' cross-entropy.

A response whose steps strengthen its answer is trusted with its internal reward, and one whose steps do not is left
out. The less the responses of a step gain, the more the traces weigh, which hold the policy meanwhile. [ours]

Weights are plain numbers without a gradient. They multiply what advantages and denominators were made for before: a
weight of 0 takes a row's gradient away and leaves its group's mean and the batch's denominators as they were.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

Gain = float | None  # None: unknown, because the response has no answer or its answer was not scored


def response_weights(gains: Sequence[Gain]) -> list[float]:
    """Returns max(gain, 0) of each response, 0 where its gain is unknown. Raises ValueError for one that is not finite.

    >>> response_weights([0.5, -0.25, None])
    [0.5, 0.0, 0.0]
    """
    if not all(gain is None or math.isfinite(gain) for gain in gains):
        raise ValueError(f"gains must be finite, and these are {list(gains)}")
    return [0.0 if gain is None or gain < 0 else gain for gain in gains]


def trace_weight(gains: Sequence[Gain], floor: float) -> float:
    """Returns the weight of all traces of a step: ``floor`` + (1 − ``floor``) · (1 − mean of the responses' weights).
    Without responses it is 1. Raises ValueError for a gain that is not finite.

    >>> trace_weight([1.0, 1.0], floor=0.1), trace_weight([None, -1.0], floor=0.1), trace_weight([1.0, 0.0], floor=0.0)
    (0.1, 1.0, 0.5)
    """
    weights = response_weights(gains)
    mean = math.fsum(weights) / len(weights) if weights else 0.0
    return floor + (1.0 - floor) * (1.0 - mean)


def shuffled(gains: Sequence[Gain], seed: int) -> list[Gain]:
    """Returns the gains with the known ones in an order that ``seed`` decides; an unknown one stays where it is. The
    weights of a step keep their distribution, and say nothing about the response that they are dealt to: the control of
    the progressive gain. A response without an answer weighs 0 with the control too: that is another filter than the
    gain, and dealing it out would take both away at once."""
    known = [place for place, gain in enumerate(gains) if gain is not None]
    order = known.copy()
    random.Random(seed).shuffle(order)
    dealt = list(gains)
    for place, source in zip(known, order, strict=True):
        dealt[place] = gains[source]
    return dealt
