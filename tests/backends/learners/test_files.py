"""Checkpoints of the learner are read as data: what torch would unpickle is refused. Real ones are test_fsdp2's."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp

from carerl.backends.learners.files import Planner, Reader, plain_errors, read_metadata
from tests.backends.learners.ranks import alone


class Runs:
    """What ``pickle`` calls when it reads this."""

    def __init__(self, ran: Path) -> None:
        self.ran = ran

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.ran}",)


def written(place: Path) -> dict[str, Any]:
    state = {
        "model": {"w": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3, dtype=torch.bfloat16)},
        "optimizer": {"lr": 0.25, "betas": (0.9, 0.95), "names": ["w", "b"], "fused": None, "on": True},
    }
    with alone():
        dcp.save(state, checkpoint_id=str(place))
    return state


def blank() -> dict[str, Any]:
    return {
        "model": {"w": torch.zeros(2, 3), "b": torch.zeros(3, dtype=torch.bfloat16)},
        "optimizer": {"lr": 0.0, "betas": (0.0, 0.0), "names": ["", ""], "fused": 1, "on": False},
    }


def load(place: Path) -> dict[str, Any]:
    state = blank()
    with alone(), plain_errors():
        dcp.load(state, storage_reader=Reader(str(place)), planner=Planner())
    return state


def test_what_torch_writes_is_read_as_torch_reads_it(tmp_path: Path) -> None:
    state, found = written(tmp_path), load(tmp_path)
    assert found["optimizer"] == state["optimizer"]
    for name, tensor in state["model"].items():
        assert torch.equal(found["model"][name], tensor)
    assert (
        pickle.loads((tmp_path / ".metadata").read_bytes()).state_dict_metadata
        == read_metadata(io.BytesIO((tmp_path / ".metadata").read_bytes())).state_dict_metadata
    )


def test_metadata_that_names_anything_else_is_refused_and_not_run(tmp_path: Path) -> None:
    written(tmp_path / "c")
    metadata = pickle.loads((tmp_path / "c" / ".metadata").read_bytes())
    for planted in (Runs(tmp_path / "ran"), setattr_planted(metadata, Runs(tmp_path / "ran"))):
        (tmp_path / "c" / ".metadata").write_bytes(pickle.dumps(planted))
        with pytest.raises(RuntimeError, match="which a checkpoint's metadata never needs"):
            load(tmp_path / "c")
        assert not (tmp_path / "ran").exists()
    for text in (b"", b"garbage", pickle.dumps({"a": 1}), pickle.dumps(None), pickle.dumps(torch.float32)):
        (tmp_path / "c" / ".metadata").write_bytes(text)
        with pytest.raises(RuntimeError, match="is refused"):
            load(tmp_path / "c")


def setattr_planted(metadata: Any, planted: Any) -> Any:
    metadata.planner_data = {"x": planted}
    return metadata


@pytest.mark.parametrize(
    "found", [b"cposix\nsystem\n(S'true'\ntR.", b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",
              b"\x80\x04\x8c\x05torch\x8c\x04load\x93.", b"\x80\x04\x8c\x05torch\x8c\x0dfloat32.to.im\x93."],
)  # fmt: skip
def test_no_other_callable_can_be_named(found: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError):
        read_metadata(io.BytesIO(found))


def test_a_value_that_is_no_tensor_is_read_as_data(tmp_path: Path) -> None:
    """The file of a rank is right by its manifest, whoever wrote both: its pickles run nothing."""
    state = blank()
    state["optimizer"]["lr"] = Runs(tmp_path / "ran")  # type: ignore[assignment]
    with alone():
        dcp.save(state, checkpoint_id=str(tmp_path / "c"))
    with pytest.raises(RuntimeError, match="Weights only load failed"):
        load(tmp_path / "c")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("leads", ["../outside.distcp", "/etc/hostname", "", "linked"])
def test_metadata_leads_to_no_file_elsewhere(tmp_path: Path, leads: str) -> None:
    place = tmp_path / "c"
    written(place)
    (place / "linked").symlink_to(tmp_path / "outside.distcp")
    metadata = pickle.loads((place / ".metadata").read_bytes())
    for item in metadata.storage_data.values():
        item.relative_path = leads
    (place / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(RuntimeError, match="not a file of this directory"):
        load(place)


def test_a_full_disk_is_an_error_of_the_file_system(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("a file where the directory should be")
    with pytest.raises(OSError), alone(), plain_errors():
        dcp.save(blank(), checkpoint_id=str(tmp_path / "c" / "learner"))
