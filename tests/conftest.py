"""Shared by all tests: threads that do not fight over the cores, and a cache that is the tests' own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("GOMP_SPINCOUNT", "20000")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Base models made by tests neither come from nor land in the user's cache."""
    path = tmp_path_factory.mktemp("cache")
    old = os.environ.get("CARERL_CACHE")
    os.environ["CARERL_CACHE"] = str(path)
    yield path
    if old is None:
        del os.environ["CARERL_CACHE"]
    else:
        os.environ["CARERL_CACHE"] = old
