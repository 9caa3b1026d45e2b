r"""Measures whether the steps of a response strengthen its answer one after the other: its progressive gain.

.. math:: s_k = \frac1m \sum_{i=1}^m \log p(a_i \mid x, steps_1 … steps_k, c, a_{<i}), \qquad
          PRG = \frac{\sum_k (s_k - s_{k-1})}{\sum_k |s_k - s_{k-1}| + \epsilon}

x: the prompt. a: the tokens of the answer that the response itself gives. c: what stands between the steps and an
answer. s: the supports, nats, one for each number of steps k = 0 … n. The gain lies in [−1, 1]: 1 where every step
makes the answer likelier, −1 where every step makes it less likely, 0 without steps. No right answer takes part.

[ours] The paper's abstract (HyTuning, arXiv 2604.08454) names the idea and gives no formula. Four properties of this
one:

1. The numerator telescopes: it is the total gain s_n − s_0. What is measured is how straight the way was.
2. It is free of scale. A tiny rise that is steady gains 1, so the total gain is reported beside it. Where the answer is
   certain before the first step, supports differ by rounding alone, and the gain would be a random number. So a
   response whose total gain is less than ``least``, up or down, gains 0. Another cut into micro-batches changed total
   gains of SmolLM2-135M by 1e-5 nats at most in float32, and in bfloat16 by .04 in the mean and by .12 at most (GSM8K's
   solutions, on a CPU). The default, 0.01 nats, is one for float32; ``recipes/hytuning_7b.yaml`` has 0.1.
3. The last step often states the answer, after which it is certain. :func:`without_last` leaves that step out. It is
   what stands between the last delimiter and the answer's mark: of a text perhaps only "The answer is", while the step
   before states the answer too. Then the control is weaker than it is meant to be.
4. It favours few steps. A response of one step gains 1, −1 or 0, and each further step can only bend the way.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

EPSILON = 1e-8  # nats


def support_places(ends: Sequence[int], mark: int, most: int) -> tuple[int, ...]:
    """Returns after how many tokens of a response a support is taken, in order: before the first step, after each one
    that ends before the answer's mark, and at the mark, where the last step ends.

    ``ends``: where the response's steps end. ``mark``: the number of tokens before the mark. Of more than ``most``
    (at least 3) places, that many are kept: the first, the last two, and others evenly between.

    >>> support_places((3, 5, 9, 12), mark=10, most=8), support_places((2, 4, 6, 8, 10), mark=8, most=3)
    ((0, 3, 5, 9, 10), (0, 6, 8))
    """
    places = sorted({0, *(end for end in ends if end < mark), mark})
    if len(places) <= most:
        return tuple(places)
    front, kept = places[:-2], most - 2
    spread = [front[round(k * (len(front) - 1) / max(kept - 1, 1))] for k in range(kept)]
    return (*dict.fromkeys(spread), *places[-2:])


def total_gain(supports: Sequence[float]) -> float:
    """Returns by how many nats all steps together raise the support of the answer; 0 with fewer than two supports."""
    return supports[-1] - supports[0] if supports else 0.0


def negligible(supports: Sequence[float], least: float) -> bool:
    """Returns True if all steps together change the support of the answer by less than ``least`` nats, up or down."""
    return abs(total_gain(supports)) < least


def progressive_gain(supports: Sequence[float], eps: float = EPSILON, least: float = 0.0) -> float:
    """Returns the progressive gain of a response from its n + 1 supports (nats); 0 with fewer than two, and where the
    total gain is :func:`negligible`.

    Raises ValueError for a support that is not finite: a difference of two would not be a number.

    >>> [round(progressive_gain(s), 4) for s in ((-4, -3, -2), (-4, -2, -3), (-2, -3, -4), (-2, -2), (-2,))]
    [1.0, 0.3333, -1.0, 0.0, 0.0]
    """
    if not all(map(math.isfinite, supports)):
        raise ValueError(f"supports must be finite, and these are {list(supports)}")
    if negligible(supports, least):
        return 0.0
    gains = [later - earlier for earlier, later in itertools.pairwise(supports)]
    return math.fsum(gains) / (math.fsum(map(abs, gains)) + eps)


def without_last(supports: Sequence[float]) -> Sequence[float]:
    """Returns the supports without the last step's: those of a response that stops before it."""
    return supports[:-1]
