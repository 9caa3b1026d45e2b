"""Makes vLLM's four calls of a weight transfer to the actors that hold engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayTaskError

from carerl.actors.health.failures import OfAnother
from carerl.config.schema import RunConfig


def patience(config: RunConfig) -> float:
    """Returns for how many seconds a part of the weights is waited for. The driver, which watches both sides, gives up
    sooner; this is for a driver that is gone."""
    return 2 * 60 * config.cluster.progress_minutes


class EngineClient:
    """Calls all engines and waits for them. See :class:`carerl.backends.transfer.base.Client`.

    ``failed``: what an engine raised in this sync. It is raised here too, but whoever called may wait for something
    else meanwhile, a broadcast in which that engine has no part any more. So the driver is told as well, with the
    learner's next sign of life.
    """

    def __init__(self, engines: Sequence[Any], workers: int, seconds: float):
        self._engines, self._seconds = engines, seconds
        self.workers = workers
        self.failed: OfAnother | None = None

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Prepares the engines. With NCCL each has ranks of its own: ``rank_offset`` is that of the first one."""
        each = self.workers // len(self._engines)
        infos = [
            init_info | ({"rank_offset": init_info["rank_offset"] + k * each} if "rank_offset" in init_info else {})
            for k in range(len(self._engines))
        ]
        engines = zip(self._engines, infos, strict=True)
        self._wait([engine.init_weight_transfer_engine.remote(info) for engine, info in engines])

    def start_weight_update(self) -> None:
        """Begins an update."""
        self.failed = None
        self._wait([engine.start_weight_update.remote() for engine in self._engines])

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Brings a part of the weights."""
        self._wait([engine.update_weights.remote(update_info) for engine in self._engines])

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Ends an update. The version is the driver's to give, see :meth:`EngineWorker.accept`."""
        self._wait([engine.finish_weight_update.remote() for engine in self._engines])

    def _wait(self, calls: list[Any]) -> None:
        try:
            wait(calls, self._seconds)
        except OfAnother as error:
            self.failed = error
            raise


def wait(calls: list[Any], seconds: float) -> None:
    """Waits until all calls have ended. Raises OfAnother if one raised an error, or has not ended in time."""
    try:
        ray.get(calls, timeout=seconds)
    except RayTaskError as error:
        raise OfAnother(error.cause, _failed(calls), str(error)) from None
    except GetTimeoutError:
        _, late = ray.wait(calls, num_returns=len(calls), timeout=0)
        told = f"it took more than {seconds:.0f} s to take its part of a weight sync"
        raise OfAnother(TimeoutError(told), _actor_of(late[0] if late else calls[0]), told) from None


def _failed(calls: list[Any]) -> str:
    """Returns Ray's id of the actor whose call raised an error: Ray's exception does not tell."""
    done, _ = ray.wait(calls, num_returns=len(calls), timeout=0)
    for call in done:
        try:
            ray.get(call, timeout=0)
        except RayTaskError:
            return _actor_of(call)
    return ""


def _actor_of(call: Any) -> str:
    return str(call.task_id().actor_id().hex())
