"""Holds what the multiple-choice data sets share: the prompt, and the order of options."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

CHOICE = "{question}\n\nThink step by step, then give the letter of the one right option within \\boxed{}."


def fixed_order(question: str, options: Sequence[str]) -> list[int]:
    """Returns a pseudo-random order of options that depends only on the question and the options, for data sets that
    always list the right option first."""
    return sorted(range(len(options)), key=lambda i: hashlib.sha256(f"{question}\n{options[i]}".encode()).digest())
