"""A learner's state as safetensors: each rank writes what it holds, and any number of ranks reads it back.

A rank of a sharded learner holds stretches of flattened parameters. ``rank_00000.safetensors`` has, for each of them,
the float32 weight and both moments, and says in its header where in the parameter the stretch begins. Whoever loads
looks for the numbers it needs in all files. So the number of ranks and the way of sharding may differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from carerl.backends.hashed import Write, Written, hashed
from carerl.backends.weight_files import write_safetensors

FORMAT = "carerl fragments 1"
WEIGHT, MOMENTS = "weight", ("exp_avg", "exp_avg_sq")  # the moments as AdamW of torch names them
PATTERN = "rank_*.safetensors"


@dataclass(frozen=True)
class Fragment:
    """A stretch of a flattened parameter. ``name``: the parameter's. ``start``: where the stretch begins in it.
    ``values``: flat tensors under :data:`WEIGHT` and, once a step was taken, :data:`MOMENTS`."""

    name: str
    start: int
    values: Mapping[str, Tensor]


def copied(directory: Path, rank: int, fragments: Iterable[Fragment], step: int) -> Write:
    """Copies what a rank holds to host memory, and returns the function that writes the copy. ``step``: optimizer steps
    that were taken."""
    starts, tensors = {}, {}
    for fragment in fragments:
        starts[fragment.name] = fragment.start
        for kind, values in fragment.values.items():
            tensors[f"{kind}/{fragment.name}"] = values.detach().to("cpu", copy=True)
    header = {"format": FORMAT, "step": str(step), "starts": json.dumps(starts)}

    def write() -> dict[str, Written]:
        written: dict[str, Written] = {}
        directory.mkdir(parents=True, exist_ok=True)
        with hashed(directory / f"rank_{rank:05d}.safetensors", written) as file:
            write_safetensors(file, tensors, header)
        tensors.clear()
        return written

    return write


class Stored:
    """Reads what all ranks wrote."""

    def __init__(self, directory: Path, files: Mapping[str, Any]) -> None:
        self._directory = directory
        self._pieces: dict[str, list[tuple[int, int, Any]]] = {}
        steps = set()
        for name, file in files.items():
            header = file.metadata() or {}
            if header.get("format") != FORMAT or not {"step", "starts"} <= set(header):
                raise ValueError(f"{directory / name} is refused: it is not a learner's file")
            steps.add(int(header["step"]))
            starts = json.loads(header["starts"])
            for key in file.keys():  # noqa: SIM118
                begin, length = int(starts[key.split("/", 1)[1]]), file.get_slice(key).get_shape()[0]
                self._pieces.setdefault(key, []).append((begin, begin + length, file.get_slice(key)))
        if len(steps) != 1:
            raise ValueError(f"{directory} is refused: its files are of {len(steps)} checkpoints")
        self.step = steps.pop()

    def fill(self, kind: str, name: str, start: int, target_N: Tensor) -> None:
        """Reads a stretch of a flattened parameter into ``target_N``. Raises ValueError if a part is missing."""
        stop, found = start + target_N.numel(), 0
        for begin, end, piece in self._pieces.get(f"{kind}/{name}", ()):
            low, high = max(start, begin), min(stop, end)
            if low < high:
                target_N[low - start : high - start].copy_(piece[low - begin : high - begin])
                found += high - low
        if found != stop - start:
            raise ValueError(f"{self._directory} is refused: it has {found:,} of {stop - start:,} values of {name}")


@contextmanager
def stored(directory: Path) -> Iterator[Stored]:
    """Opens a directory that all ranks wrote to. Raises ValueError for one that it refuses."""
    from safetensors import safe_open

    with ExitStack() as opened:
        paths = sorted(directory.glob(PATTERN))
        if links := [path.name for path in paths if path.is_symlink()]:
            raise ValueError(f"{directory} is refused: {links[0]} is a link")
        yield Stored(directory, {path.name: opened.enter_context(safe_open(path, "pt")) for path in paths})


def holds(directory: Path) -> bool:
    """Returns whether a directory is of this format."""
    return any(directory.glob(PATTERN))


def fresh_optimizer(theirs: str, ours: str) -> str:
    """Says that a checkpoint was taken over without the optimizer's state."""
    return (
        f"the checkpoint was written with learner.backend={theirs}: its weights are taken over, and the optimizer of "
        f"learner.backend={ours} starts afresh"
    )
