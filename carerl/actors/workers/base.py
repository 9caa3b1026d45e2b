"""Holds what all workers share. A worker is an actor: a process of a run.

Every worker has ``load(config, model_dir)``, which may be called again: a sweep keeps the processes, with their
imported libraries and compiled engines, and gives them the settings of the next run.
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
from carerl.config.plan.memory import GIB
from carerl.config.plan.peaks import Peak
from carerl.config.reading.compose import import_plugins
from carerl.config.schema import RunConfig

STACK_FRAMES = 40  # the innermost ones, in a sign of life


def device_of(gpus: float) -> torch.device:
    """Returns the device of an actor that has so many GPUs."""
    return torch.device("cuda" if gpus > 0 else "cpu")


def _share() -> float:
    """Returns the CPUs that Ray assigned to this actor; infinity outside of Ray."""
    if not ray.is_initialized():
        return math.inf
    return float(ray.get_runtime_context().get_assigned_resources().get("CPU", 0.0))


class Worker:
    """Has what every worker needs: signs of life, threads, plugins."""

    def ready(self) -> tuple[int, str]:
        """Returns this process's id and the address of its node, once it runs."""
        self._thread = threading.get_ident()  # Ray calls all but ``pulse`` and ``write`` on this thread
        return os.getpid(), self.node_ip()

    _asked, _thread = 0, 0

    def pulse(self) -> progress.Pulse:
        """Returns a sign of life. Ray calls it on a thread of its own while another call is under way."""
        frame = sys._current_frames().get(self._thread)
        return progress.Pulse(progress.steps(), "".join(traceback.format_stack(frame)[-STACK_FRAMES:]) if frame else "")

    def begin(self, config: RunConfig, threads: int = 1, own: bool = False) -> None:
        """Imports the user's plugins and sets the threads of this process; every ``load`` calls it first. ``own``: if
        ``threads`` is 0, what runs in this process chooses its own number."""
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
        """Returns the threads that this process computes with now."""
        return Threads(torch.get_num_threads(), self._asked, _share(), usable_cores())

    def rss_gib(self) -> float:
        """Returns the peak resident memory of this process, GiB."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20

    def peak(self) -> Peak:
        """Returns the most that this process has had of main memory and, where it computes on a GPU, of that."""
        if not torch.cuda.is_initialized():
            return Peak(self.rss_gib())
        most = torch.cuda.max_memory_allocated() / GIB, torch.cuda.max_memory_reserved() / GIB
        return Peak(self.rss_gib(), *most, torch.cuda.mem_get_info()[1] / GIB)

    def node_ip(self) -> str:
        """Returns the address of this node."""
        return str(ray.util.get_node_ip_address())


def local_files(config: RunConfig, model_dir: str, weights: bool = True) -> str:
    """Returns the directory of a model on this node. Downloads a hub's model, at the run's commit; without its
    ``weights`` if they are not wanted."""
    from carerl.backends.hub import BESIDE_WEIGHTS, WHOLE, model_files

    return model_files(model_dir, config.model.revision, WHOLE if weights else BESIDE_WEIGHTS)
