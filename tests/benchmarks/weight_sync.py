r"""Bytes and seconds of a weight sync between real actors: learner, engine, and Ray between them.

    python -m tests.benchmarks.weight_sync [--model DIR] [--kind shm store] [--repeats 5] [WORD=VALUE …]

Without a model the tiny one is drawn. Each row is a crew of its own. The seconds are the median of so many syncs after
one that is not counted, on the driver's clock. Then one more is made with everything counted: bytes that go into Ray's
object store, inside of its pickles and beside them, and bytes that torch's copying operations write in each process. A
link carries what one node's object store fetches from another's, or what NCCL sends: with ``shm`` nothing, with
``store`` what was put, once to every other node.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
import ray.cloudpickle
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from carerl.actors import crew as crews
from carerl.actors.cluster.cluster import cluster
from carerl.actors.workers.engine import EngineWorker
from carerl.actors.workers.learner import LearnerWorker, fresh_model
from carerl.backends.models import save_model
from carerl.config.load import load
from carerl.config.schema import RunConfig
from carerl.controller import weights
from carerl.tasks.tiny.tokenizer import make_tokenizer

COPYING = ("copy_", "clone", "_to_copy", "cat", "stack")
MIB = 2**20


class Copied(TorchDispatchMode):
    """Counts the bytes that operations write which only copy."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in COPYING:
            self.bytes += out.numel() * out.element_size()
        return out


class Counting:
    """Is mixed into a worker. ``count`` makes the next calls count."""

    counted: Copied | None = None

    def count(self) -> None:
        self.counted, self.inside, self.beside = Copied(), 0, 0
        real = ray.put

        def put(value: Any) -> Any:
            buffers: list[Any] = []
            self.inside += len(ray.cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append))
            self.beside += sum(buffer.raw().nbytes for buffer in buffers)
            return real(value)

        ray.put = put

    def counts(self) -> tuple[int, int, int]:
        assert self.counted is not None
        return self.inside, self.beside, self.counted.bytes

    def watched(self, call: Any, *arguments: Any) -> Any:
        if self.counted is None:
            return call(*arguments)
        with self.counted:
            return call(*arguments)


class CountingLearner(Counting, LearnerWorker):
    def send(self) -> Any:
        if self.counted is not None:  # the sender took ray.put when it was made
            self._sender._place = type(self._sender._place)(**{**vars(self._sender._place), "put": ray.put})  # type: ignore[attr-defined]
        return self.watched(super().send)


class CountingEngine(Counting, EngineWorker):
    def start_weight_update(self) -> None:
        self.watched(super().start_weight_update)

    def update_weights(self, info: dict[str, Any]) -> None:
        self.watched(super().update_weights, info)

    def finish_weight_update(self) -> None:
        self.watched(super().finish_weight_update)


def measured(config: RunConfig, model: str, repeats: int) -> list[float]:
    """MiB of the weights; seconds of a sync; MiB inside of pickles, beside them, copied by learner and by engine."""
    crews.LearnerWorker, crews.EngineWorker = CountingLearner, CountingEngine  # type: ignore[misc]
    with crews.crew(config, say=lambda text: None) as crew:
        crew.load(config, model)
        seconds = []
        for version in range(1 + repeats):
            begin = time.perf_counter()
            gib = weights.synchronise(crew, version)["sync/gib"]
            seconds.append(time.perf_counter() - begin)
        actors = [*crew.learner._actors, *crew.engines._actors]
        ray.get([actor.count.remote() for actor in actors], timeout=60)
        weights.synchronise(crew, 1 + repeats)
        found = ray.get([actor.counts.remote() for actor in actors], timeout=60)
    ranks = found[: config.learner.ranks]
    bytes_ = [
        sum(one[0] for one in ranks),
        sum(one[1] for one in ranks),
        sum(one[2] for one in ranks),
        sum(one[2] for one in found[config.learner.ranks :]),
    ]
    return [gib * 1024, statistics.median(seconds[1:]), *(one / MIB for one in bytes_)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="")
    parser.add_argument("--kind", nargs="+", default=["shm", "store"])
    parser.add_argument("--repeats", type=int, default=5)
    options, words = parser.parse_known_args()
    words = ["recipe=care_grpo_tiny", *words]
    print(f"torch {torch.__version__}, {' '.join(words)}, MiB and seconds\n")
    print("| kind | weights | sync, s | put in pickles | put beside them | learner copies | engine copies |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder, cluster(object_store_mib=2048):
        model = options.model or drawn(load(words), Path(folder))
        for kind in options.kind:
            config = load([*words, f"sync.transfer={kind}", f"model.path={model}"])
            row = measured(config, model, options.repeats)
            print(f"| {kind} | " + " | ".join(f"{number:.3g}" for number in row) + " |", flush=True)


def drawn(config: RunConfig, folder: Path) -> str:
    """Writes a fresh model of the recipe's shape."""
    model = fresh_model(config)
    save_model(folder, model.config, {n: p.detach() for n, p in model.named_parameters()}, make_tokenizer())
    return str(folder)


if __name__ == "__main__":
    main()
