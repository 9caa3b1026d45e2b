"""Takes the majority vote over N sampled answers."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence


def majority(answers: Sequence[str | None], key: str, seed: int) -> tuple[str | None, float]:
    """Returns the most frequent answer and its share of all N; (None, 0) without an answer.

    None (unparsed, truncated) counts in N and never wins. Ties are broken by a hash of (seed, key, answer): the
    same every time, and without preference for the answer that comes first.
    """
    counts = Counter(answer for answer in answers if answer is not None)
    if not counts:
        return None, 0.0
    best = max(counts.values())
    winner = max(
        (answer for answer, count in counts.items() if count == best),
        key=lambda answer: hashlib.sha256(f"{seed}|{key}|{answer}".encode()).digest(),
    )
    return winner, best / len(answers)
