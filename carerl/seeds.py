"""Derives seeds: a run has one seed, and every step, prompt and suite gets its own from it."""

from __future__ import annotations


def derived_seed(seed: int, index: int) -> int:
    """Returns a seed below 2**31 for number ``index`` under ``seed``. In practice it is distinct for each pair.

    It uses the splitmix64 finaliser of Steele and Vigna, so that nearby (seed, index) pairs give unrelated streams.
    """
    z = (seed * 0x9E3779B97F4A7C15 + index * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return (z ^ (z >> 31)) & 0x7FFFFFFF
