"""Weights in one file and in several: the bytes of the safetensors library, read by whatever reads models."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from carerl.backends import weight_files
from carerl.backends.hashed import HashedFile, hashed
from carerl.backends.models import load_model, make_model, save_model
from carerl.backends.weight_files import write_weights
from carerl.backends.whole_checkpoint import check_finite, check_weights
from carerl.config.schema import ShapeConfig
from carerl.config.stored_weights import weight_files as files_of


def test_one_file_is_what_the_library_writes(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    weights = {
        "b": torch.randn(3, 5, generator=generator),
        "a": torch.randn(4, 6, generator=generator)[:, ::2],  # not contiguous
        "ä.é": torch.randn(7, generator=generator).bfloat16(),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "half": torch.ones(1, dtype=torch.float16),
    }
    (path,) = written = write_weights(tmp_path, weights)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, tmp_path / "theirs", {"format": "pt"})
    content = (tmp_path / "model.safetensors").read_bytes()
    assert content == (tmp_path / "theirs").read_bytes()
    assert written[path] == (len(content), hashlib.sha256(content).hexdigest())
    assert Path(path) == tmp_path / "model.safetensors"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_several_files_are_one_model(dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = ShapeConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_layers=3, head_dim=16)
    model = make_model(shape, (1,), lambda made: [p.data.normal_() for p in made.parameters()])
    weights = {name: parameter.detach().to(dtype) for name, parameter in model.named_parameters()}
    largest = max(tensor.nbytes for tensor in weights.values())
    monkeypatch.setattr(weight_files, "FILE_BYTES", largest + 1)
    written = save_model(tmp_path, model.config, weights, None)
    files = files_of(str(tmp_path))
    assert len(files) > 5 and {str(path) for path in files} | {str(tmp_path / "model.safetensors.index.json")} == set(
        written
    )
    assert [path.name for path in files] == [
        f"model-{k:05d}-of-{len(files):05d}.safetensors" for k in range(1, len(files) + 1)
    ]
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["weight_map"] == {name: path.name for path in files for name in load_file(path)}
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in weights.values())
    for path in files:
        assert sum(tensor.nbytes for tensor in load_file(path).values()) <= largest + 1
    assert all(hashlib.sha256(Path(path).read_bytes()).hexdigest() == file.sha256 for path, file in written.items())
    assert check_weights(str(tmp_path)) == []
    check_finite(str(tmp_path))
    found = dict(load_model(str(tmp_path), str(dtype).removeprefix("torch.")).named_parameters())
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in weights.items())


def test_a_hashed_file_goes_forward_only(tmp_path: Path) -> None:
    """torch writes its own format through it, and nothing could go back and change what is hashed."""
    tensor, written = torch.arange(1000.0), {}
    with hashed(tmp_path / "file", written) as file:
        torch.save(tensor, file)
        with pytest.raises(io.UnsupportedOperation):
            file.seek(0)
        assert not file.seekable() and file.tell() > tensor.nbytes
    content = (tmp_path / "file").read_bytes()
    assert written == {str(tmp_path / "file"): (len(content), hashlib.sha256(content).hexdigest())}
    assert torch.equal(torch.load(tmp_path / "file"), tensor)
    with pytest.raises(ValueError), hashed(tmp_path / "other", written):
        raise ValueError
    assert len(written) == 1, "what was not written to its end has no sum"
    assert HashedFile(io.BytesIO()).written().sha256 == hashlib.sha256().hexdigest()
