"""The actor that is one rank of the learner."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from pathlib import Path
from typing import Any

import ray
import torch
from torch import Tensor

from carerl import progress
from carerl.actors.workers.base import Worker, device_of, local_files
from carerl.backends.learners import LEARNERS
from carerl.backends.transfer.buckets import Bucket, buckets, checksum
from carerl.config.schema import RunConfig
from carerl.loss.streams import with_shares
from carerl.types import TokenBatch

LOOPBACK = "127.0.0.1"
MEETING = timedelta(minutes=10)  # how long a rank waits for the others, to begin and in every collective


class LearnerWorker(Worker):
    """One rank of the learner. The penalty is computed here, from gathered policy and reference log-probs."""

    _store: Any = None

    def meet(self, ranks: int, host: str) -> int:
        """Opens a port of ``host``, and of no other address, where the ranks meet; returns it. Returns 0 for one rank,
        which needs none."""
        if ranks == 1:
            return 0
        import torch.distributed as dist

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
        import torch.distributed as dist

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
        from carerl.backends.models import DTYPES, end_ids, load_model
        from carerl.loss.objective import Objective
        from carerl.regularizers import REGULARIZERS

        self.begin(config, config.learner.threads)
        torch.manual_seed(config.seed)
        # Weights and optimizer state are float32 whatever the dtype of the files: bfloat16 loses an update of 1e-6.
        files = local_files(config, model_dir) if model_dir else ""
        model = load_model(files, "float32", config.model.trust_remote_code) if files else fresh_model(config)
        self._engine_dtype = DTYPES[config.model.dtype]
        objective = Objective.supervised()
        if config.algorithm is not None:  # supervised training has none
            regularizer = config.regularizer
            objective = Objective(
                ALGORITHMS[config.algorithm.name].build(config.algorithm),
                REGULARIZERS[regularizer.name].build(regularizer),
                regularizer.beta,
                regularizer.estimator,
                regularizer.place,
            )
        device = device_of(config.learner.gpus_per_rank)
        self._learner = LEARNERS[config.learner.backend](model, config.learner, objective, device)
        self._bucket_mib = config.sync.bucket_mib
        # An exported model ends its responses at the tokens of its own files too, whatever this run was asked for.
        own = end_ids(files, config.model.trust_remote_code) if files else ()
        self._end_ids = tuple(dict.fromkeys([*config.rollout.end_ids, *own]))
        self._refs: list[Any] = []

    def set_reference_head(self, head_VD: Tensor) -> None:
        """Takes the reference's frozen head, with which exact divergences are computed."""
        self._learner.set_reference_head(head_VD)

    def update(
        self, minibatches: Any, lr: float, strengths: Any, batch: TokenBatch, *streams: dict[str, Tensor]
    ) -> dict[str, float]:
        """Takes one optimizer step a minibatch; returns metrics. ``streams``: the reference's scores, by shares of
        rows."""
        return self._learner.update(with_shares(batch, streams), minibatches, lr, strengths)

    def update_many(self, steps: list[tuple[TokenBatch, Any, float]]) -> list[dict[str, float]]:
        """Takes several steps of supervised training in one call; returns the metrics of each."""
        return [self._learner.update(batch, minibatches, lr) for batch, minibatches, lr in steps]

    def log_probs(self, batch: TokenBatch, *streams: dict[str, Tensor]) -> tuple[list[int], dict[str, Tensor]]:
        """Returns this rank's rows of the batch, and their (rows, T) streams ``logprobs``, ``entropy`` and ``rkl``."""
        return self._learner.log_probs(with_shares(batch, streams))

    def publish(self, first: bool) -> tuple[list[Any], int]:
        """Puts all weights into the object store, in buckets, from the ``first`` rank; returns references to them, and
        their checksum. The other ranks take part and return none."""
        total = 0
        self._refs = []
        sent = ((name, tensor.to(self._engine_dtype)) for name, tensor in self._learner.tensors())
        for bucket in buckets(sent, self._bucket_mib):
            if first:
                total = (total + checksum(bucket)) & 0xFFFFFFFFFFFFFFFF
                self._refs.append(ray.put(bucket))
            progress.step()
        return self._refs, total

    def save(self, directory: str) -> dict[str, int]:
        """Writes this rank's part of model and optimizer. Returns name and size in bytes of every file that it sees
        there afterwards: its own, and the other ranks' on storage that all nodes share."""
        self._learner.save(Path(directory))
        return {path.name: path.stat().st_size for path in Path(directory).iterdir()}

    def restore(self, directory: str) -> None:
        """Reads model and optimizer back from what :meth:`save` wrote."""
        self._learner.load(Path(directory))

    def export(self, directory: str, tokenizer: Any, first: bool, dtype: str) -> None:
        """Writes the weights, in ``dtype``, as a Hugging Face directory, from the ``first`` rank."""
        from carerl.backends.models import DTYPES, save_model

        weights: Bucket = [(name, t.to(DTYPES[dtype])) for name, t in self._learner.tensors() if first]
        if first:
            save_model(Path(directory), self._learner.hf_config, dict(weights), tokenizer, self._end_ids)


def fresh_model(config: RunConfig) -> Any:
    """Makes a model of the recipe's shape with the tiny world's initialisation, drawn from the run's seed."""
    from carerl.backends.initial import init_tiny
    from carerl.backends.models import make_model
    from carerl.tasks import TASKS

    generator = torch.Generator().manual_seed(config.seed)
    task = TASKS[config.task.name].build(config.task, config.seed)
    return make_model(config.model.shape, task.stop_ids, lambda model: init_tiny(model, generator))
