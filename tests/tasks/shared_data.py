"""Where the real rows are, if they are at hand: beside the repository, never in it."""

from __future__ import annotations

from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def data_dir(*files: str) -> str:
    """The directory; skips the test if one of the files is not in it."""
    for file in files:
        if not (DATA / file).is_file():
            pytest.skip(f"{file} is not at hand")
    return str(DATA)
