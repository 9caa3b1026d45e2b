"""Derives seeds: a run has one, and every step, prompt and suite draws from a seed of its own."""

from __future__ import annotations


def derived_seed(seed: int, index: int) -> int:
    """Returns a seed for number ``index`` under ``seed``: distinct for each pair in practice, below 2**31.

    It is Steele and Vigna's splitmix64 finaliser, so that nearby (seed, index) pairs give unrelated streams.
    """
    z = (seed * 0x9E3779B97F4A7C15 + index * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (z ^ (z >> 31)) & 0x7FFFFFFF
