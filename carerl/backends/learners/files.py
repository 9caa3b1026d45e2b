"""Reads a learner's checkpoint without running anything that is in it.

torch's distributed format pickles the metadata and every value that is not a tensor. torch's own reader gives both to
``pickle``, which calls any function that a file names. Here the metadata may name only the classes that it is made of,
values are read with torch's ``weights_only``, and a tensor's file must lie in the checkpoint's directory. So a
stranger's checkpoint can hold wrong numbers but no code, whoever wrote its manifest.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import CheckpointException, DefaultLoadPlanner, FileSystemReader
from torch.distributed.checkpoint._nested_dict import set_element
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import ReadItem

_METADATA = "torch.distributed.checkpoint.metadata"
KNOWN = frozenset(
    {(_METADATA, name) for name in (
        "Metadata", "MetadataIndex", "StorageMeta", "TensorStorageMetadata", "BytesStorageMetadata", "TensorProperties",
        "ChunkStorageMetadata", "_MEM_FORMAT_ENCODING",
    )}
    | {("torch.distributed.checkpoint.filesystem", "_StorageInfo"), ("torch", "Size"),
       ("torch.serialization", "_get_layout"), ("collections", "OrderedDict"),
       ("pathlib", "PosixPath"), ("pathlib", "PurePosixPath"), ("pathlib._local", "PosixPath")}
)  # fmt: skip


@contextmanager
def plain_errors() -> Iterator[None]:
    """Replaces torch's ``CheckpointException`` by the error of a rank; OSError and ValueError are raised as they are.

    ``CheckpointException`` is not an ``Exception``, so the code that handles errors would not see it.
    """
    try:
        yield
    except CheckpointException as error:
        rank, (cause, _) = next(iter(error.failures.items()))
        if isinstance(cause, OSError | ValueError):
            raise cause from None
        raise RuntimeError(f"rank {rank}: {type(cause).__name__}: {cause}") from None


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = (module, name) in KNOWN or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype))
        if not known:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which a checkpoint's metadata never needs")
        return super().find_class(module, name)


def read_metadata(stream: IO[bytes]) -> Metadata:
    """Reads the metadata of torch's distributed format. Raises ``pickle.UnpicklingError`` for anything else."""
    found = _Unpickler(stream).load()
    if not isinstance(found, Metadata):
        raise pickle.UnpicklingError(f"it holds a {type(found).__name__}")
    return found


class Reader(FileSystemReader):
    """Reads files as torch's reader does, but the metadata with :func:`read_metadata`.

    Raises ValueError for a directory that it refuses.
    """

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        path = Path(self.path) / ".metadata"
        try:
            with open(path, "rb") as stream:
                metadata = read_metadata(stream)
        except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, TypeError) as error:
            raise ValueError(f"{path} is refused: {error}") from None
        for item in (metadata.storage_data or {}).values():
            name = str(getattr(item, "relative_path", ""))
            if not name or Path(name).name != name or (Path(self.path) / name).is_symlink():
                raise ValueError(f"{path} is refused: it leads to {name!r}, which is not a file of this directory")
        if metadata.storage_meta is None:
            metadata.storage_meta = StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


def stored_weights(directory: Path, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, Tensor]]:
    """Yields the float32 weights of a checkpoint in torch's distributed format, whole, one after another, under Hugging
    Face names. Each process reads for itself. Raises ValueError for a checkpoint that it refuses."""
    for name, shape in shapes.items():
        state = {"model": {f"model.{name}": torch.empty(shape)}}
        with plain_errors():
            dcp.load(state, storage_reader=Reader(str(directory)), planner=Planner(), no_dist=True)
        yield name, state["model"][f"model.{name}"]


class Planner(DefaultLoadPlanner):
    """Plans a load as torch's planner does, but reads values that are not tensors as data: numbers, text, lists."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        loaded, name = torch.load(value, weights_only=True), read_item.dest_index.fqn
        if self.flatten_state_dict:
            set_element(self.original_state_dict, self.mappings[name], loaded)
        else:
            self.state_dict[name] = loaded
