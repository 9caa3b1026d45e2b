"""Shared by all tests: threads that do not fight over the cores, a cache that is the tests' own, and no process group
of the module before."""

from __future__ import annotations

import os
import sys
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


@pytest.fixture(scope="module", autouse=True)
def no_process_group() -> None:
    """Ends the group that an engine of the module before has left in this process; a learner of this one could not
    make its own. Which modules share a process is chance with two of them."""
    if "torch.distributed" in sys.modules:
        from tests.backends.learners.ranks import end_group

        end_group()
