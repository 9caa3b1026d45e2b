"""The learner as a driver uses it: every call goes to all of its ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carerl.actors.handles.base import Handle, HeldBatch, PublishedWeights
from carerl.actors.health.asking import Asker
from carerl.actors.workers.learner import LOOPBACK
from carerl.config.schema import RunConfig
from carerl.loss.batching import Minibatch
from carerl.loss.objective import Strengths
from carerl.types import TokenBatch


class Learner(Handle):
    """Sends calls to all ranks of the learner. Making one has the ranks meet and form a process group."""

    def __init__(self, actors: list[Any], gpus_per_rank: float, ask: Asker | None = None) -> None:
        super().__init__(actors, ask)
        nodes = self._ask([actor.node_ip.remote() for actor in actors], "start")
        host = nodes[0] if len(set(nodes)) > 1 else LOOPBACK
        port = self._ask(actors[0].meet.remote(len(actors), host), "start")
        joining = [actor.join.remote(rank, len(actors), host, port, gpus_per_rank) for rank, actor in enumerate(actors)]
        self._ask(joining, "start")

    def _all(self, phase: str, method: str, *arguments: Any) -> list[Any]:
        """Calls a method of every rank; returns the values in order of ranks."""
        return list(self._ask([getattr(actor, method).remote(*arguments) for actor in self._actors], phase))

    def begin(self, config: RunConfig, model_dir: str) -> None:
        """Loads settings and weights, and waits until they are loaded."""
        self._ask(self.load(config, model_dir), "load")

    def set_reference_head(self, head: Any) -> None:
        """Gives every rank the reference's frozen head: a pointer of
        :meth:`carerl.actors.handles.reference.Reference.head`."""
        self._all("load", "set_reference_head", head)

    def hold(self, batch: TokenBatch) -> HeldBatch:
        """Puts a batch into the object store, once for all who read it."""
        return HeldBatch(self._ask.put(batch), batch.rows, batch.width)

    def update(
        self, held: HeldBatch, minibatches: Sequence[Minibatch], lr: float, strengths: Strengths
    ) -> dict[str, float]:
        """Takes one optimizer step a minibatch at learning rate ``lr``; returns their metrics, which are the same on
        every rank. ``strengths``: the coefficients of the loss's components."""
        return self._all("train", "update", list(minibatches), lr, strengths, held.batch, *held.streams)[0]

    def update_many(self, steps: list[tuple[TokenBatch, list[Minibatch], float]]) -> Callable[[], Any]:
        """Starts several supervised steps: batch, minibatches and learning rate of each. Does not wait: the returned
        function does, and returns the metrics of each step."""
        ref = self._ask.put(steps)
        pending = [actor.update_many.remote(ref) for actor in self._actors]
        return lambda: self._ask(pending, "train")[0]

    def log_probs(self, held: HeldBatch) -> dict[str, Tensor]:
        """Returns float32 (B, T) streams of a batch: ``logprobs``, ``entropy``, and ``rkl``, which is 0 unless the
        reference gave hidden states (:mod:`carerl.backends.learners.base`)."""
        parts = self._all("score", "log_probs", held.batch, *held.streams)
        whole = {name: torch.zeros(held.rows, held.width) for name in parts[0][1]}
        for rows, values in parts:
            for name, stream in values.items():
                whole[name][rows] = stream
        return whole

    def publish(self) -> PublishedWeights:
        """Puts all weights into the object store."""
        pending = [actor.publish.remote(rank == 0) for rank, actor in enumerate(self._actors)]
        buckets, checksum = self._ask(pending, "sync")[0]
        return PublishedWeights(buckets, checksum)

    def save(self, directory: Path) -> dict[str, int]:
        """Writes model and optimizer; returns name and size in bytes of every file that some rank sees there
        afterwards."""
        seen: dict[str, int] = {}
        for files in self._all("save", "save", str(directory)):  # another rank may see a file shorter than it is
            seen |= {name: max(size, seen.get(name, 0)) for name, size in files.items()}
        return seen

    def restore(self, directory: Path) -> None:
        """Reads model and optimizer back from what :meth:`save` wrote."""
        self._all("restore", "restore", str(directory))

    def export(self, directory: Path, tokenizer: Any, dtype: str) -> None:
        """Writes the weights, in ``dtype``, as a Hugging Face directory."""
        writing = [
            actor.export.remote(str(directory), tokenizer, rank == 0, dtype) for rank, actor in enumerate(self._actors)
        ]
        self._ask(writing, "export")

    def rss_gib(self) -> float:
        """Returns the peak resident memory of all ranks together, GiB."""
        return float(sum(self._all("memory", "rss_gib")))
