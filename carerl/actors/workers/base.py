"""The actor classes: what runs in each process of a run.

Every worker has ``load(config, …)``, which may be called again: a sweep keeps the processes, with their
imported libraries and compiled engines, and gives them the next cell's settings.
"""

from __future__ import annotations

import math
import os
import resource
import sys
import threading
import traceback
from contextlib import suppress

import ray
import torch

from carerl import progress
from carerl.config.cores import Threads, thread_count, usable_cores
from carerl.config.reading.compose import import_plugins
from carerl.config.schema import RunConfig

STACK_FRAMES = 40  # of a sign of life, the innermost


def device_of(gpus: float) -> torch.device:
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


def local_files(config: RunConfig, model_dir: str) -> str:
    """The directory of a model on this node; a hub's model is downloaded to it, at the run's commit."""
    from carerl.backends.hub import WHOLE, model_files

    return model_files(model_dir, config.model.revision, WHOLE)
