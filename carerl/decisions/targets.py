"""The distribution over a decision's options that its cross-entropy is taken toward.

L = −Σ_c q_c log p(c), over the whole vocabulary: mass outside the options pays too. p is the current policy at the
decision's place. K is the number of options.

========= ============================================ ==========================================================
target    the decision was right                       the decision was wrong
========= ============================================ ==========================================================
``paper`` 1 on the decision (arXiv 2601.13284)         1/K on every option
``rest``  1 on the decision                            1/(K − 1) on every option but the decision [ours]
``gold``  1 on the right option, also where the decision was wrong [ours]
========= ============================================ ==========================================================

``paper`` and ``rest`` see only whether the decision was right, so where training comes to rest depends on how decisions
are sampled (:mod:`.fixed`). ``gold`` is a proper score under any sampling. Where several options are right, ``gold``
shares its 1 among them.

The paper keeps the decision's probability in [1/K, 1] and does not say of which term [ours]. ``clamp`` says which is
off where the current probability of the decision's token is at or below 1/K: the term of a wrong decision
(``uniform``), both terms (``both``), or none (``off``). ``gold`` has no bound.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

CLAMPS = ("uniform", "both", "off")
UNBOUNDED = -1.0  # no probability is below it


@dataclass(frozen=True, slots=True)
class Target:
    """Holds q, one probability an option. ``bounded``: the clamp may switch it off. ``pulls_up``: it is the term of a
    right decision."""

    probabilities: tuple[float, ...]
    bounded: bool
    pulls_up: bool


def paper(chosen: int, right: Collection[int], options: int) -> Target:
    """Returns the paper's target. ``chosen`` and ``right`` are places among the ``options``."""
    if chosen in right:
        return _one(chosen, options)
    return Target((1 / options,) * options, bounded=True, pulls_up=False)


def rest(chosen: int, right: Collection[int], options: int) -> Target:
    """Returns the target that takes a wrong decision down to 0."""
    if chosen in right:
        return _one(chosen, options)
    others = tuple(0.0 if option == chosen else 1 / (options - 1) for option in range(options))
    return Target(others, bounded=True, pulls_up=False)


def gold(chosen: int, right: Collection[int], options: int) -> Target:
    """Returns the target of plain cross-entropy. Raises ValueError where no option is right."""
    if not right:
        raise ValueError("target gold needs a right option")
    shares = tuple(1 / len(right) if option in right else 0.0 for option in range(options))
    return Target(shares, bounded=False, pulls_up=True)


def _one(chosen: int, options: int) -> Target:
    return Target(tuple(float(option == chosen) for option in range(options)), bounded=True, pulls_up=True)


TARGETS: dict[str, Callable[[int, Collection[int], int], Target]] = {"paper": paper, "rest": rest, "gold": gold}


def bound(target: Target, clamp: str) -> float:
    """Returns the probability at or below which the target is switched off; :data:`UNBOUNDED` if it never is. Raises
    ValueError for an unknown clamp.

    >>> bound(paper(0, {1}, 4), "uniform"), bound(paper(0, {0}, 4), "uniform"), bound(paper(0, {0}, 4), "both")
    (0.25, -1.0, 0.25)
    """
    if clamp not in CLAMPS:
        raise ValueError(f"clamp = {clamp}: it must be one of {', '.join(CLAMPS)}")
    if not target.bounded or clamp == "off" or (clamp == "uniform" and target.pulls_up):
        return UNBOUNDED
    return 1 / len(target.probabilities)
