"""Bounds of the settings that cut the tail of a distribution before it is sampled from."""

from __future__ import annotations

from carerl.settings import Limit

TOP_P = Limit("above 0, at most 1", lambda p: 0 < p <= 1, "it must be above 0 and at most 1", "write {key}=1 for off")
TOP_K = Limit(
    "at least 1, or -1 for off",
    lambda k: k == -1 or k >= 1,
    "it is a count of tokens, or -1 for off",
    "write {key}=-1",
)
