"""The learner as a driver uses it: every call goes to all of its ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carerl.actors.handles.base import Handle, HeldBatch, Writing
from carerl.actors.health.asking import WRITE, Asker
from carerl.actors.turns import Turns
from carerl.actors.workers.learner import LOOPBACK
from carerl.backends.hashed import Written
from carerl.backends.learners.split import deal
from carerl.backends.transfer.base import Sent
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
        self._turns = Turns()
        self._have_engines_sleep: Callable[[], None] = lambda: None

    def share(self, turns: Turns, sleep: Callable[[], None]) -> None:
        """Notes that engines share the ranks' GPUs. ``turns``: whose turn it is; ``sleep`` has the engines sleep."""
        self._turns, self._have_engines_sleep = turns, sleep

    @property
    def first(self) -> Any:
        """The actor of rank 0, which sends weights."""
        return self._actors[0]

    def _all(self, phase: str, method: str, *arguments: Any) -> list[Any]:
        """Calls a method of every rank; returns the values in order of ranks."""
        return list(self._ask([getattr(actor, method).remote(*arguments) for actor in self._actors], phase))

    def begin(self, config: RunConfig, model_dir: str) -> None:
        """Loads settings and weights, and waits until they are loaded. Engines that share the GPUs sleep meanwhile."""
        self._have_engines_sleep()
        self._ask(self.load(config, model_dir), "load")

    def release(self) -> None:
        """Has every rank give up its model, so that engines can be built on the GPUs that they share."""
        self._all("load", "release")

    def rest(self) -> None:
        """Has every rank give up memory that only training needs. Until :meth:`resume` a rank refuses to train."""
        self._all("sync", "rest")

    def resume(self) -> None:
        """Has every rank take back what :meth:`rest` gave up."""
        self._all("sync", "resume")

    def set_reference_head(self, head: Any) -> None:
        """Gives every rank the reference's frozen head, by a pointer to it."""
        self._all("load", "set_reference_head", head)

    def set_vocabulary(self, tokens: int) -> None:
        """Tells every rank how many tokens the tokenizer has, over which self-certainty is computed. The ranks have no
        tokenizer, and the model's config counts the rows that pad its head as well. Due after each load."""
        self._all("load", "set_vocabulary", tokens)

    def hold(self, batch: TokenBatch, minibatches: Sequence[Minibatch] = ()) -> HeldBatch:
        """Puts a batch into the object store, once for all who read it. ``minibatches``: those that it is to be trained
        in; they decide with the rows' lengths which rank works on which row."""
        lengths_B, ranks = batch.prompt_lengths_B + batch.response_lengths_B, len(self._actors)
        owners = tuple(deal(lengths_B, (part.rows for part in minibatches), ranks))
        return HeldBatch(self._ask.put(batch), batch.width, lengths_B, tuple(minibatches), owners, ranks)

    def update(self, held: HeldBatch, lr: float, strengths: Strengths, part_norms: bool = False) -> dict[str, float]:
        """Takes one optimizer step for each minibatch of the batch at learning rate ``lr``; returns their metrics,
        which are the same on every rank. ``strengths``: the coefficients of the loss's components. ``part_norms``: the
        gradient norm of each component is measured too. Raises WrongTurn while engines that share the GPUs are
        awake."""
        self._turns.check("update")
        return self._of_batch(held, "train", "update", lr, strengths, part_norms)[0]

    def _of_batch(self, held: HeldBatch, phase: str, method: str, *arguments: Any) -> list[Any]:
        """Calls a method of every rank for a batch, with the reference's streams of its own rows only."""
        streams = held.streams or [()] * held.ranks
        pending = [
            getattr(actor, method).remote(*arguments, held.minibatches, held.own_scores, held.batch, *own)
            for actor, own in zip(self._actors, streams, strict=True)
        ]
        return list(self._ask(pending, phase))

    def update_many(self, steps: list[tuple[TokenBatch, list[Minibatch], float]]) -> Callable[[], Any]:
        """Starts several supervised steps: batch, minibatches and learning rate of each. Does not wait: the returned
        function does, and returns the metrics of each step."""
        ref = self._ask.put(steps)
        pending = [actor.update_many.remote(ref) for actor in self._actors]
        return lambda: self._ask(pending, "train")[0]

    def log_probs(self, held: HeldBatch) -> dict[str, Tensor]:
        """Returns float32 (B, T) streams of a batch: ``logprobs``, ``entropy``, ``peak`` (the likeliest token's
        log-prob), ``certainty`` (0 before :meth:`set_vocabulary`), and ``rkl``, which is 0 unless the reference gives
        hidden states (:mod:`carerl.backends.learners.base`)."""
        parts = self._of_batch(held, "score", "log_probs")
        whole = {name: torch.zeros(held.rows, held.width) for name in parts[0][1]}
        for rows, values in parts:
            for name, stream in values.items():
                whole[name][rows] = stream
        return whole

    def open_transfer(self, kind: str, engines: Sequence[Any], workers: int) -> None:
        """Makes the sender that brings weights to the engines' actors. ``workers``: the processes that hold a part of
        a model, in all engines together."""
        self._sending("open_transfer", engines, kind, list(engines), workers)

    def send(self, engines: Sequence[Any]) -> Sent:
        """Brings all weights to the engines, which were given to :meth:`open_transfer`; returns what was sent."""
        sent: Sent = self._sending("send", engines)[0]
        return sent

    def _sending(self, method: str, engines: Sequence[Any], *arguments: Any) -> list[Any]:
        """Calls a method of every rank, and watches the engines meanwhile, which rank 0 calls in it."""
        pending = [getattr(actor, method).remote(*arguments) for actor in self._actors]
        return list(self._ask(pending, "sync", along=engines))

    def save(self, directory: Path, model: Path, tokenizer: Any, dtype: str) -> Writing:
        """Has every rank copy its part of model and optimizer to host memory, and the first one the whole model too,
        in ``dtype``. Then starts writing the copies, into ``directory`` and, as a Hugging Face directory, into
        ``model``, and does not wait: training may go on. Whoever saves again waits for the earlier files first,
        as a second copy may not fit into memory."""
        self._all("save", "save", str(directory))
        self._gather(model, tokenizer, dtype)
        return self._write("save")

    def restore(self, directory: Path) -> str:
        """Reads model and optimizer back from what :meth:`save` wrote. Returns what a person should know, or ''."""
        return str(self._all("restore", "restore", str(directory))[0])

    def export(self, directory: Path, tokenizer: Any, dtype: str) -> dict[str, Written]:
        """Writes the weights, in ``dtype``, as a Hugging Face directory; returns the files of the weights."""
        return self.begin_export(directory, tokenizer, dtype).files()

    def begin_export(self, directory: Path, tokenizer: Any, dtype: str) -> Writing:
        """Does what :meth:`export` does, and does not wait once the weights are copied."""
        self._gather(directory, tokenizer, dtype)
        return self._write("export")

    def _gather(self, directory: Path, tokenizer: Any, dtype: str) -> None:
        """Has the first rank copy the whole model, to be written into a directory."""
        gathering = [
            actor.export.remote(str(directory), tokenizer, rank == 0, dtype) for rank, actor in enumerate(self._actors)
        ]
        self._ask(gathering, "export")

    def _write(self, phase: str) -> Writing:
        """Starts writing what the ranks have copied."""
        return Writing(self._ask, [a.write.options(concurrency_group=WRITE).remote() for a in self._actors], phase)

    def rss_gib(self) -> float:
        """Returns the peak resident memory of all ranks together, GiB."""
        return float(sum(self._all("memory", "rss_gib")))
