"""Writes a learner's checkpoint in torch's distributed format, from a copy in host memory, beside training.

Each rank hashes its own file while it writes it. torch's writer writes from the beginning to the end of a file and
never seeks; a version that did would be refused (:class:`~carerl.backends.hashed.HashedFile` cannot seek).
:mod:`carerl.backends.learners.files` reads what is written here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemWriter
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions

from carerl.backends.hashed import HashedFile, Write, Written, hashed
from carerl.backends.learners.files import plain_errors

# A rank that has written its file waits for the slowest one. A rank that hangs is found sooner, by whoever waits.
SLOWEST = timedelta(hours=12)
_groups: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def copied(state: dict[str, Any], directory: Path) -> Write:
    """Copies this rank's shards to host memory, and returns the function that writes them. Collective, and so is the
    function, on a group of its own: training may go on meanwhile.

    The copy takes as many bytes of main memory as the rank's shards have: with float32 weights and two moments 12
    bytes for each of the rank's parameters. It is plain memory, given back once it is written. Pinned memory that is
    kept would copy in fewer seconds, and be taken from the node for the whole run.
    """
    stager = DefaultStager(StagingOptions(False, False, False, False))
    try:
        copy = [stager.stage(state)]
    finally:
        stager.close()  # it would keep the copy for the next time
    group = meeting()

    def write() -> dict[str, Written]:
        writer = _Writer(directory)
        with plain_errors():
            dcp.save(copy.pop(), storage_writer=writer, process_group=group)
        return writer.files.written

    return write


def meeting() -> Any:
    """Returns the group in which ranks meet beside training, on the CPU whatever they train on. The first call in a
    process makes it, on all ranks together."""
    world = dist.group.WORLD
    if world not in _groups:
        _groups[world] = dist.new_group(backend="gloo", timeout=SLOWEST)
    return _groups[world]


class _Files(FileSystem):
    """Hashes what is written."""

    def __init__(self) -> None:
        self.written: dict[str, Written] = {}

    @contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Iterator[HashedFile]:
        if mode != "wb":
            raise ValueError(f"torch opens {path} with mode {mode!r}: files are written once, from their beginning")
        with hashed(Path(path), self.written) as stream:
            yield stream

    def rename(self, path: str | os.PathLike[str], new_path: str | os.PathLike[str]) -> None:
        super().rename(path, new_path)
        self.written[str(new_path)] = self.written.pop(str(path))


class _Writer(FileSystemWriter):
    """Writes files as torch's writer does, but through :class:`_Files`, which also takes them to the disk."""

    def __init__(self, directory: Path) -> None:
        # Copying ahead is for tensors of a GPU, and waits for the stream on which the learner trains.
        super().__init__(directory, sync_files=False, per_thread_copy_ahead=0)
        self.fs = self.files = _Files()
