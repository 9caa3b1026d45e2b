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
from carerl.types import TokenBatch, with_shares

LOOPBACK = "127.0.0.1"


MEETING = timedelta(minutes=10)  # that a rank waits for the others, to begin and in every collective


class LearnerWorker(Worker):
    """One rank of the learner. The penalty is computed here, from gathered policy and reference log-probs."""

    _store: Any = None

    def meet(self, ranks: int, host: str) -> int:
        """Opens the place where the ranks meet, on ``host`` alone, and returns its port. One rank needs none (0)."""
        if ranks == 1:
            return 0
        import torch.distributed as dist

        # Bound here and handed on: a port that is looked for first and bound later may be another's by then, and a
        # store that binds for itself listens on every address of the node.
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
            listener.bind((host, 0))
            listener.listen(ranks)
            port = int(listener.getsockname()[1])
            self._store = dist.TCPStore(
                host, port, ranks, True, MEETING, wait_for_workers=False, master_listen_fd=listener.detach()
            )
        return port

    def join(self, rank: int, ranks: int, host: str, port: int, gpus: float) -> None:
        """Joins the group that meets at ``port`` of ``host``. On the loopback address the ranks' own connections are
        kept to it as well; NCCL finds its own way."""
        import torch.distributed as dist

        if host == LOOPBACK:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        store: Any = self._store
        if store is None:
            store = dist.TCPStore(host, port, ranks, False, MEETING) if ranks > 1 else dist.HashStore()
        backend = "nccl" if gpus > 0 else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=ranks, timeout=MEETING)

    def load(self, config: RunConfig, model_dir: str) -> None:
        """``model_dir`` empty: a fresh model of the recipe's shape, initialised from the run's seed."""
        from carerl.algorithms import ALGORITHMS
        from carerl.backends.models import DTYPES, end_ids, load_model
        from carerl.loss.objective import Objective
        from carerl.regularizers import REGULARIZERS

        self.begin(config, config.learner.threads)
        torch.manual_seed(config.seed)
        # float32 weights and optimizer state whatever the dtype of the files: an update of 1e-6 is lost in bfloat16.
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
        # what the model's own files name ends its responses in an export too, whatever this run was asked for
        own = end_ids(files, config.model.trust_remote_code) if files else ()
        self._end_ids = tuple(dict.fromkeys([*config.rollout.end_ids, *own]))
        self._refs: list[Any] = []

    def set_reference_head(self, head_VD: Tensor) -> None:
        self._learner.set_reference_head(head_VD)

    def update(
        self, minibatches: Any, lr: float, strengths: Any, batch: TokenBatch, *streams: dict[str, Tensor]
    ) -> dict[str, float]:
        return self._learner.update(with_shares(batch, streams), minibatches, lr, strengths)

    def update_many(self, steps: list[tuple[TokenBatch, Any, float]]) -> list[dict[str, float]]:
        """Several steps in one call, for supervised training on batches that are ready."""
        return [self._learner.update(batch, minibatches, lr) for batch, minibatches, lr in steps]

    def score(self, batch: TokenBatch, *streams: dict[str, Tensor]) -> tuple[list[int], dict[str, Tensor]]:
        return self._learner.score(with_shares(batch, streams))

    def publish(self, first: bool) -> tuple[list[Any], int]:
        """Puts all weights into the object store, in buckets; references and checksum from the first rank."""
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
        """Returns the name and size in bytes of every file that this rank sees there afterwards: its own, and on
        storage that all nodes share the others' too."""
        self._learner.save(Path(directory))
        return {path.name: path.stat().st_size for path in Path(directory).iterdir()}

    def restore(self, directory: str) -> None:
        self._learner.load(Path(directory))

    def export(self, directory: str, tokenizer: Any, first: bool, dtype: str) -> None:
        """Writes a Hugging Face directory from the first rank."""
        from carerl.backends.models import DTYPES, save_model

        weights: Bucket = [(name, t.to(DTYPES[dtype])) for name, t in self._learner.tensors() if first]
        if first:
            save_model(Path(directory), self._learner.hf_config, dict(weights), tokenizer, self._end_ids)


def fresh_model(config: RunConfig) -> Any:
    """A model of the recipe's shape with the tiny world's initialisation, drawn from the run's seed."""
    from carerl.backends.initial import init_tiny
    from carerl.backends.models import make_model
    from carerl.tasks import TASKS

    generator = torch.Generator().manual_seed(config.seed)
    task = TASKS[config.task.name].build(config.task, config.seed)
    return make_model(config.model.shape, task.stop_ids, lambda model: init_tiny(model, generator))
