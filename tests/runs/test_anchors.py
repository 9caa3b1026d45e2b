"""The anchors that a run keeps: they come back as they were, and a run does not go on without all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from carerl.loss.anchored import Anchor
from carerl.runs.anchors import kept_anchors, read_anchors, write_anchors
from carerl.types import RunError

KEPT = [Anchor((k, 7), (k + 1,) * (k % 3 + 1)) for k in range(6)]


def test_anchors_come_back_in_their_order(tmp_path: Path) -> None:
    file = tmp_path / "anchors.parquet"
    write_anchors(file, KEPT, lambda ids: " ".join(map(str, ids)))
    assert read_anchors(file) == KEPT == kept_anchors(file, 3) == kept_anchors(file, 2)


def test_a_run_does_not_go_on_with_what_is_not_whole_steps(tmp_path: Path) -> None:
    file = tmp_path / "anchors.parquet"
    for kept, said in ((KEPT[:5], "5 anchors, and a step takes 3"), ([], "0 anchors")):
        write_anchors(file, kept, str)
        with pytest.raises(RunError, match=said):
            kept_anchors(file, 3)
    file.write_bytes(b"PAR1")
    with pytest.raises(RunError, match="cannot be used"):
        kept_anchors(file, 3)
    file.unlink()
    with pytest.raises(RunError, match="do not hold its weights any more"):
        kept_anchors(file, 3)
