"""The actor classes: what runs in each process of a run.

Every worker has ``load(config, …)``, which may be called again: a sweep keeps the processes, with their
imported libraries and compiled engines, and gives them the next cell's settings.
"""

from __future__ import annotations

import json
import math
import os
import resource
import socket
import sys
import threading
import traceback
from contextlib import suppress
from datetime import timedelta
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
import torch
from torch import Tensor

from carerl import progress
from carerl.backends.engines import Query, Request
from carerl.backends.learners import LEARNERS
from carerl.backends.transfer.buckets import Bucket, buckets, check_complete, checksum
from carerl.config.cores import Threads, thread_count, usable_cores
from carerl.config.reading.compose import import_plugins
from carerl.config.schema import RunConfig
from carerl.config.shapes import absolute_path
from carerl.types import Completion, Sampling, TokenBatch, with_shares


class StaleWeights(RuntimeError):
    """An engine was asked to generate with weights that it does not hold."""


class DamagedWeights(RuntimeError):
    """An engine received other bytes than the learner sent."""


BUCKET_S = 1200.0  # that a bucket of weights (sync.bucket_mib) may take from its node: 512 MiB at half a MB a second
LOOPBACK = "127.0.0.1"
MEETING = timedelta(minutes=10)  # that a rank waits for the others, to begin and in every collective
STACK_FRAMES = 40  # of a sign of life, the innermost


def _device(gpus: float) -> torch.device:
    return torch.device("cuda" if gpus > 0 else "cpu")


def _share() -> float:
    """This actor's CPUs of Ray's; outside of Ray all that there are."""
    if not ray.is_initialized():
        return math.inf
    return float(ray.get_runtime_context().get_assigned_resources().get("CPU", 0.0))


class Worker:
    """What all workers have."""

    def ready(self) -> tuple[int, str]:
        """This process and the address of its node, once it runs."""
        self._thread = threading.get_ident()  # Ray calls everything but ``pulse`` on this one
        return os.getpid(), self.node_ip()

    _asked, _thread = 0, 0

    def pulse(self) -> progress.Pulse:
        """A sign of life, given on a thread of its own while a call is under way."""
        frame = sys._current_frames().get(self._thread)
        return progress.Pulse(progress.steps(), "".join(traceback.format_stack(frame)[-STACK_FRAMES:]) if frame else "")

    def begin(self, config: RunConfig, threads: int = 1, own: bool = False) -> None:
        """What comes first in every ``load``: the user's own tables, and the threads of this process. ``own``: what
        runs in it decides by itself where ``threads`` is 0."""
        import_plugins(config.plugins)
        self._asked = threads
        if own and not threads:
            return
        count = thread_count(threads, _share(), usable_cores())
        if torch.get_num_threads() != count:  # an engine may let nobody change them, and complains
            torch.set_num_threads(count)
        if torch.get_num_interop_threads() != count:
            with suppress(RuntimeError):  # torch takes it once, before it has used any
                torch.set_num_interop_threads(count)

    def threads(self) -> Threads:
        """What this process computes with by now."""
        return Threads(torch.get_num_threads(), self._asked, _share(), usable_cores())

    def rss_gib(self) -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    def node_ip(self) -> str:
        return str(ray.util.get_node_ip_address())


class RolloutWorker(Worker):
    """Holds an engine. ``version`` is that of the weights in it; None while they are not whole."""

    def __init__(self) -> None:
        self._engine: Any = None
        self._built_with = ""
        self._version: int | None = None
        self._model_dir, self._trusted = "", False
        self._failure: Exception | None = None  # of what was done in advance: told by load
        self._weights_of = ""  # the directory whose weights the engine was built with; '' once others were sent
        self._shapes: dict[str, tuple[int, ...]] | None = None  # of the tensors that a sync must bring

    def prepare(self, config: RunConfig, base: RunConfig | None = None) -> None:
        """Does what ``load`` would spend most of its time on, in a process that would wait: imports, and the engine
        itself. While a ``base`` model is still to be trained, the engine is built with fresh weights of its shape."""
        self._failure = None
        try:
            self._prepare(config, base)
        except Exception as error:
            self._failure = error  # a second try would meet what the first has left, memory of a GPU for instance

    def _prepare(self, config: RunConfig, base: RunConfig | None) -> None:
        from carerl.backends.engines import ENGINES

        self.begin(config, config.rollout.threads, own=config.rollout.gpus_per_actor > 0)
        ENGINES[config.rollout.engine].prepare(config)
        place = absolute_path(config.model.path)
        if place and Path(place).is_dir():  # what is to be fetched first is built from in load
            self._build(config, place)
        elif base is not None and base.kind == "sft":
            from carerl.backends.models import save_model

            with TemporaryDirectory() as folder:
                model = fresh_model(base)
                save_model(Path(folder), model.config, {n: p.detach() for n, p in model.named_parameters()}, None)
                self._build(config, folder)

    def load(self, config: RunConfig, model_dir: str) -> None:
        """Builds the engine unless one of the same settings and shape is there already; its weights count
        as none until the first sync. Raises what ``prepare`` failed with."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        model_dir = _files(config, model_dir)
        self.begin(config, config.rollout.threads, own=config.rollout.gpus_per_actor > 0)
        if self._engine is not None:
            self._engine.cancel()  # what a run that failed has left
        self._build(config, model_dir)
        self._version = None
        self._model_dir, self._trusted, self._shapes = model_dir, config.model.trust_remote_code, None

    def _build(self, config: RunConfig, model_dir: str) -> None:
        from carerl.backends.engines import ENGINES

        settings = {**vars(config.rollout), "end_ids": []}  # which go along with every request
        built_with = json.dumps([settings, _shape(model_dir), config.model.dtype], default=str)
        if built_with == self._built_with:
            return
        self._engine, self._built_with = None, ""
        self._engine = ENGINES[config.rollout.engine].build(config, model_dir)
        self._built_with, self._weights_of = built_with, model_dir

    def use_loaded(self, version: int) -> None:
        """Lets the weights that the engine was just built with count as those of ``version``."""
        if self._weights_of != self._model_dir:
            raise StaleWeights("the engine was built with the weights of another model, or of an earlier run")
        self._version = version

    def sync(self, bucket_refs: list[Any], version: int, expected_checksum: int) -> None:
        """Takes all weights. Until it returns, the engine counts as holding none.

        Raises DamagedWeights where they are not what was sent, IncompleteWeights where they are not all of the model's.
        """
        from carerl.backends.models import parameter_shapes

        self._version, self._weights_of = None, ""
        tensors = [pair for ref in bucket_refs for pair in _fetched(ref)]
        found = checksum(tensors)
        if found != expected_checksum:
            raise DamagedWeights(f"weights of version {version} arrived damaged: {found:x}, not {expected_checksum:x}")
        if self._shapes is None:
            self._shapes = parameter_shapes(self._model_dir, self._trusted)
        check_complete(tensors, self._shapes)
        self._engine.update_weights(tensors)
        self._version = version

    def submit(self, requests: list[Request], sampling: Sampling, version: int) -> None:
        self._check(version)
        self._engine.submit(requests, sampling)

    def next_logprobs(self, queries: list[Query], version: int) -> list[tuple[float, ...]]:
        self._check(version)
        found: list[tuple[float, ...]] = self._engine.next_logprobs(queries)
        return found

    def _check(self, version: int) -> None:
        if self._version != version:
            raise StaleWeights(f"engine holds weights of version {self._version}, asked for {version}")

    def advance(self, steps: int) -> list[tuple[int, list[Completion]]]:
        return self._engine.advance(steps)

    def cancel(self) -> None:
        self._engine.cancel()


def _fetched(ref: Any) -> Any:
    """A bucket of weights. Raises GetTimeoutError: a node that is gone must not be waited for without end."""
    bucket = ray.get(ref, timeout=BUCKET_S)
    progress.step()
    return bucket


def _files(config: RunConfig, model_dir: str) -> str:
    """The directory of a model on this node; a hub's model is downloaded to it, at the run's commit."""
    from carerl.backends.hub import WHOLE, model_files

    return model_files(model_dir, config.model.revision, WHOLE)


def _shape(model_dir: str) -> str:
    path = Path(model_dir) / "config.json"
    return path.read_text() if path.exists() else model_dir


class ReferenceWorker(Worker):
    """Holds the frozen reference."""

    def prepare(self, config: RunConfig) -> None:
        """Imports what ``load`` needs, in a process that would wait."""
        from transformers import AutoModelForCausalLM  # noqa: F401

        import carerl.backends.learners.policy  # noqa: F401

    def load(self, config: RunConfig, model_dir: str) -> None:
        from carerl.backends.learners.policy import Policy
        from carerl.backends.models import DTYPES, load_model

        self.begin(config, config.reference.threads)
        self._rows = config.reference.micro_batch_rows
        model = load_model(_files(config, model_dir), config.model.dtype, config.model.trust_remote_code)
        model = model.to(_device(config.reference.gpus_per_actor), DTYPES[config.reference.compute_dtype])
        self._policy = Policy(model.eval().requires_grad_(False), config.learner.head_chunk_tokens)

    def head(self) -> Tensor:
        """The frozen head (V, D), for exact divergences in the learner."""
        return self._policy.head_VD.detach().cpu()

    @torch.no_grad()
    def score(self, batch: TokenBatch, start: int, stop: int, with_hidden: bool) -> dict[str, Tensor]:
        """Of the rows from ``start`` to ``stop``: ``ref_hidden_ND``, packed, if asked for (log-probs follow from it in
        the learner), else ``ref_logprobs_BT`` in the whole batch's width."""
        parts = [batch.select(range(k, min(k + self._rows, stop))) for k in range(start, stop, self._rows)]
        if with_hidden:
            tokens = [0, *(part.response_tokens for part in parts)]
            hidden_ND = torch.empty(0)
            for part, begin in zip(parts, accumulate(tokens), strict=False):
                own_ND = self._policy.hidden(part).cpu()
                progress.step()
                if begin == 0:  # whole from the start: a list of parts would be in memory twice at the end
                    hidden_ND = own_ND.new_empty(sum(tokens), own_ND.shape[1])
                hidden_ND[begin : begin + len(own_ND)] = own_ND
            return {"ref_hidden_ND": hidden_ND}
        mask_BT = batch.mask_BT[start:stop]
        logprobs_N = torch.cat([self._logprobs(part) for part in parts])
        logprobs_BT = torch.zeros(mask_BT.shape)
        logprobs_BT[mask_BT] = logprobs_N.float()
        return {"ref_logprobs_BT": logprobs_BT}

    def _logprobs(self, part: TokenBatch) -> Tensor:
        logprobs_N: Tensor = self._policy(part, None, False)["logprobs_N"].cpu()
        progress.step()
        return logprobs_N


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
        files = _files(config, model_dir) if model_dir else ""
        model = load_model(files, "float32", config.model.trust_remote_code) if files else fresh_model(config)
        self._engine_dtype = DTYPES[config.model.dtype]
        objective = Objective.supervised()
        if config.kind == "rl":
            regularizer = config.regularizer
            objective = Objective(
                ALGORITHMS[config.algorithm.name].build(config.algorithm),
                REGULARIZERS[regularizer.name].build(regularizer),
                regularizer.beta,
                regularizer.estimator,
                regularizer.place,
            )
        device = _device(config.learner.gpus_per_rank)
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
