"""The actor that is one rank of the learner."""

from __future__ import annotations

import gc
import os
import socket
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch
import torch.distributed as dist
from torch import Tensor

from carerl import progress
from carerl.actors.handles.base import OF_ANCHORS
from carerl.actors.turns import WrongTurn
from carerl.actors.workers.base import Worker, device_of, local_files
from carerl.actors.workers.engine_client import EngineClient, patience
from carerl.backends.hashed import Write, Written
from carerl.backends.learners import LEARNERS
from carerl.backends.learners.base import AddReference
from carerl.backends.transfer import TRANSFERS
from carerl.backends.transfer.base import Place, Sender, Sent
from carerl.config.roles import reference_in_learner
from carerl.config.schema import RunConfig
from carerl.config.transfer import allocator_errors, transfer_kind
from carerl.errors import raise_all
from carerl.loss.objective import AnchorTerm
from carerl.loss.streams import ReferenceShare, with_shares
from carerl.progress import Pulse
from carerl.types import TokenBatch

LOOPBACK = "127.0.0.1"
MEETING = timedelta(minutes=10)  # how long a rank waits for the others, to begin and in every collective


class LearnerWorker(Worker):
    """One rank of the learner. The penalty is computed here, from gathered policy and reference log-probs."""

    _store: Any = None
    _resting = False  # while an engine that shares this rank's GPU is awake
    _sender: Sender
    _client: EngineClient | None = None
    _unwritten: list[Write]

    def pulse(self) -> Pulse:
        """Returns a sign of life. Raises what an engine raised in a sync under way."""
        if self._client is not None and self._client.failed is not None:
            raise self._client.failed
        return super().pulse()

    def meet(self, ranks: int, host: str) -> int:
        """Opens a port of ``host``, and of no other address, where the ranks meet; returns it. Returns 0 for one rank,
        which needs none."""
        if ranks == 1:
            return 0
        # Bound here and handed on: a port that is found first and bound later may be taken by then, and a store that
        # binds for itself listens on every address of the node.
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
            listener.bind((host, 0))
            listener.listen(ranks)
            port = int(listener.getsockname()[1])
            self._store = dist.TCPStore(
                host, port, ranks, True, MEETING, wait_for_workers=False, master_listen_fd=listener.detach()
            )
        return port

    def join(self, rank: int, ranks: int, host: str, port: int, gpus: float) -> None:
        """Joins the group that meets at ``port`` of ``host``. If that is the loopback address, Gloo's connections
        between ranks stay on it too; NCCL finds its own way."""
        if host == LOOPBACK:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        store: Any = self._store
        if store is None:
            store = dist.TCPStore(host, port, ranks, False, MEETING) if ranks > 1 else dist.HashStore()
        backend = "nccl" if gpus > 0 else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=ranks, timeout=MEETING)

    def load(self, config: RunConfig, model_dir: str) -> None:
        """Loads the model, and makes objective and optimizer. With an empty ``model_dir`` makes a fresh model of the
        recipe's shape, initialised from the run's seed."""
        from carerl.algorithms import ALGORITHMS
        from carerl.backends.allocator import grow_segments
        from carerl.backends.learners.adapters import adapted
        from carerl.backends.learners.starting import from_files, in_memory
        from carerl.backends.learners.writing import meeting
        from carerl.backends.models import DTYPES, end_ids
        from carerl.loss.objective import Objective
        from carerl.regularizers import REGULARIZERS

        self.release()
        self.begin(config, config.learner.threads)
        torch.manual_seed(config.seed)
        # What is trained is float32 whatever the dtype of the files, and so is its optimizer state: bfloat16 loses an
        # update of 1e-6.
        files = local_files(config, model_dir, weights=dist.get_rank() == 0) if model_dir else ""
        start = from_files(files, config.model.trust_remote_code) if files else in_memory(fresh_model(config))
        self._engine_dtype = DTYPES[config.model.dtype]
        self._lora, self._base = config.learner.lora, (model_dir, config.model.revision)
        if self._lora.rank:
            start = adapted(start, self._lora, self._engine_dtype, config.seed)
        objective = Objective.supervised()
        if config.algorithm is not None:  # supervised training has none
            regularizer = config.regularizer
            objective = Objective(
                ALGORITHMS[config.algorithm.name].build(config.algorithm),
                REGULARIZERS[regularizer.name].build(regularizer),
                regularizer.beta,
                regularizer.estimator,
                regularizer.place,
                _anchor_term(config),
            )
        device = device_of(config.learner.gpus_per_rank)
        if config.learner.gpus_per_rank:
            raise_all(list(allocator_errors(config, os.environ)))
            grow_segments(transfer_kind(config) != "ipc")
        self._learner = LEARNERS[config.learner.backend](start, config.learner, objective, device)
        self._bucket_mib, self._patience = config.sync.bucket_mib, patience(config)
        # An exported model ends its responses at the tokens of its own files too, whatever this run was asked for.
        own = end_ids(files, config.model.trust_remote_code) if files else ()
        self._end_ids = tuple(dict.fromkeys([*config.rollout.end_ids, *own]))
        meeting()  # now, and not at the first save: a network that does not allow it is found out at the start
        self._reference = None
        if reference_in_learner(config):
            from carerl.backends.learners.reference import AdaptersOff, ShardedReference

            self._reference = AdaptersOff() if self._lora.rank else ShardedReference.of(config, files, device)

    def release(self) -> None:
        """Gives up what an earlier :meth:`load` made. The next one needs that memory, or an engine that shares this GPU
        and is about to be built. A thread that still writes a checkpoint has copies of its own."""
        if hasattr(self, "_learner"):
            self._learner.close()
        for name in ("_learner", "_reference", "_sender", "_client"):
            vars(self).pop(name, None)
        self._unwritten, self._resting = [], False
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def set_reference_head(self, head_VD: Tensor) -> None:
        """Takes the reference's frozen head, with which exact divergences are computed."""
        self._learner.set_reference_head(head_VD)

    def set_vocabulary(self, tokens: int) -> None:
        """Takes the number of real tokens, over which self-certainty is computed."""
        self._learner.set_vocabulary(tokens)

    def update(
        self,
        lr: float,
        strengths: Any,
        part_norms: bool,
        minibatches: Any,
        scores: str,
        batch: TokenBatch,
        *shares: ReferenceShare,
    ) -> dict[str, float]:
        """Takes one optimizer step a minibatch; returns metrics. ``scores``: what this rank's own reference adds,
        ``hidden``, ``anchors`` (hidden states of anchors alone), ``logprobs`` or nothing (''). ``shares``: what the
        reference's actors found for this rank's rows. Raises WrongTurn while this rank rests."""
        if self._resting:
            raise WrongTurn("update is refused: the engine that shares this rank's GPU is awake, have it sleep before")
        with self._adding(scores) as add_reference:
            rows = with_shares(batch, shares)
            alone = scores == OF_ANCHORS
            return self._learner.update(rows, minibatches, lr, strengths, add_reference, part_norms, alone)

    def rest(self) -> None:
        """Gives up memory that only training needs: an engine that shares this GPU is about to wake."""
        if not self._resting:
            self._learner.rest()
            self._resting = True

    def resume(self) -> None:
        """Takes back what :meth:`rest` gave up: the engine sleeps."""
        if self._resting:
            self._learner.resume()
            self._resting = False

    def update_many(self, steps: list[tuple[TokenBatch, Any, float]]) -> list[dict[str, float]]:
        """Takes several steps of supervised training in one call; returns the metrics of each."""
        return [self._learner.update(batch, minibatches, lr) for batch, minibatches, lr in steps]

    def log_probs(
        self, minibatches: Any, scores: str, batch: TokenBatch, *shares: ReferenceShare
    ) -> tuple[list[int], dict[str, Tensor]]:
        """Returns this rank's rows of the batch, and their (rows, T) streams ``logprobs``, ``entropy``, ``rkl``,
        ``peak`` and ``certainty``."""
        with self._adding(scores) as add_reference:
            return self._learner.log_probs(with_shares(batch, shares), minibatches, add_reference)

    def _adding(self, scores: str) -> AbstractContextManager[AddReference | None]:
        if not scores:
            return nullcontext()
        assert self._reference is not None
        return self._reference.gathered(self._learner, with_hidden=scores in ("hidden", OF_ANCHORS))

    def open_transfer(self, kind: str, engines: list[Any], workers: int) -> None:
        """Makes the sender of ``kind``. ``engines``: the engines' actors, which rank 0 alone calls.
        ``workers``: the processes that hold a part of a model, in all engines together."""

        place = Place(dist.get_rank(), self.node_ip(), ray.put)
        source = self._learner.trained(self._engine_dtype)
        self._client = EngineClient(engines, workers, self._patience)
        self._sender = TRANSFERS[kind](kind, source, self._client, place, self._bucket_mib)

    def send(self) -> Sent:
        """Brings what was trained to the engines. Collective; rank 0 returns what was sent."""
        return self._sender.send()

    def save(self, directory: str) -> None:
        """Copies this rank's part of model and optimizer to host memory; :meth:`write` writes it."""
        self._unwritten.append(self._learner.save(Path(directory)))

    def restore(self, directory: str) -> str:
        """Reads model and optimizer back from what :meth:`save` and :meth:`write` wrote. Returns what a person should
        know, or ''."""
        return self._learner.load(Path(directory))

    def export(self, directory: str, tokenizer: Any, first: bool, dtype: str) -> None:
        """Gathers the weights, in ``dtype``, and copies them to the ``first`` rank's host memory, whole; the other
        ranks take part and keep nothing. :meth:`write` writes them, as a Hugging Face directory. With
        ``learner.lora.export=adapter`` it is adapters alone, float32, and a directory as peft writes it.

        The whole model is kept, and not a file of it at a time, so that training waits for the gathering alone. In
        bfloat16 it has a sixth of the bytes that the ranks copy to save model and optimizer."""
        from carerl.backends.lora import save_adapters
        from carerl.backends.models import DTYPES, save_model

        copied: dict[str, Tensor] = {}
        apart = self._lora.apart
        for name, tensor in self._learner.trained(torch.float32) if apart else self._learner.source(DTYPES[dtype]):
            if first:
                copied[name] = tensor.to("cpu", copy=True)
            progress.step()
        if not first:
            return
        write = partial(save_model, Path(directory), self._learner.hf_config, copied, tokenizer, self._end_ids)
        if apart:
            write = partial(save_adapters, Path(directory), self._lora, self._base, copied, tokenizer)
        self._unwritten.append(write)

    def write(self) -> dict[str, Written]:
        """Writes what :meth:`save` and :meth:`export` copied, and lets go of each copy once it is on the disk. Returns
        the files that this rank wrote, by their paths. Ray calls it on a thread of its own, while training goes on."""
        unwritten, self._unwritten = self._unwritten, []
        written: dict[str, Written] = {}
        while unwritten:
            written |= unwritten.pop(0)()
        return written


def _anchor_term(config: RunConfig) -> AnchorTerm | None:
    """Returns what the loss does on anchors; None for nothing."""
    from carerl.regularizers import REGULARIZERS

    anchor = config.anchor
    if not anchor.on:
        return None
    if not anchor.exact:
        return AnchorTerm(anchor.weight)
    entry = REGULARIZERS[anchor.divergence]
    settings = entry.config(alpha=anchor.alpha) if anchor.divergence == "srkl" else entry.config()
    return AnchorTerm(anchor.weight, entry.build(settings).exact)


def fresh_model(config: RunConfig) -> Any:
    """Makes a model of the recipe's shape with the tiny world's initialisation, drawn from the run's seed."""
    from carerl.backends.initial import init_tiny
    from carerl.backends.models import make_model
    from carerl.tasks import TASKS

    generator = torch.Generator().manual_seed(config.seed)
    task = TASKS[config.task.name].build(config.task, config.seed)
    return make_model(config.model.shape, task.stop_ids, lambda model: init_tiny(model, generator))
