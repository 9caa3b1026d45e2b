"""Joins a Ray cluster, or starts one on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import ray
import torch

from carerl.actors.cluster import access, jobs
from carerl.actors.cluster.addresses import AUTO, LOCAL, Place, check_temporary, cluster_place, unanswered
from carerl.actors.health.timeouts import in_time
from carerl.errors import ConfigError
from carerl.text import terminal


@dataclass(frozen=True)
class Resources:
    """Says how many CPUs and GPUs a cluster has, in Ray's units. ``joined``: others started it, and it may grow."""

    cpus: float
    gpus: float
    joined: bool


# GOMP_SPINCOUNT: how long an idle OpenMP thread spins before it sleeps, in rounds; here some tens of microseconds.
# Without a bound an idle actor's threads spin for milliseconds on the cores that the working one needs (two at work:
# ten times slower); without any spinning every small operation pays for waking a thread (twice as slow).
ACTOR_ENVIRONMENT = {
    "GOMP_SPINCOUNT": "20000",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


def joins_cluster(cluster_address: str = "") -> str:
    """Returns the address of the cluster that is joined; '' if Ray is started on this machine, as for ``local``."""
    address = cluster_address or os.environ.get("RAY_ADDRESS", "")
    return "" if address == LOCAL else address


def check_address(cluster_address: str = "") -> None:
    """Refuses the address of a cluster that cannot be joined: its form is wrong, it is another machine's and there is
    no token, or no head answers there within half a minute. Raises ConfigError."""
    text = joins_cluster(cluster_address)
    field = "cluster.address" if cluster_address else "RAY_ADDRESS"
    if not text:
        return
    place = cluster_place(field, _found_here(field) if text == AUTO else text)
    access.check_open(field, text, place.host)
    if reason := unanswered(place) or _no_head(place):
        raise ConfigError(field, text, f"no Ray cluster could be joined there: {reason}", _REMEDY)


HEAD_S = 15.0


def _no_head(place: Place) -> str:
    """Returns in words why a server that speaks gRPC is no cluster's head; '' if it is one. Errors about tokens are
    left to Ray."""
    try:
        from ray._raylet import GcsClient  # type: ignore[attr-defined]
    except ImportError:  # a private name of Ray's, which may change: then Ray itself finds out, which takes longer
        return ""
    asked = in_time(
        lambda: GcsClient(address=str(place)).internal_kv_get(b"session_name", b"session", timeout=HEAD_S), HEAD_S
    )
    if not asked.ended:
        return f"what listens at {place} does not answer as a Ray cluster's head within {HEAD_S:.0f} s"
    if asked.error is None or "auth" in str(asked.error).lower():
        return ""
    return f"what listens at {place} is no Ray cluster's head, or one of another version ({asked.error})"


_REMEDY = (
    "start one with 'ray start --head', or leave cluster.address empty and RAY_ADDRESS unset to run on this machine"
)


def _found_here(field: str) -> str:
    """Returns what ``auto`` stands for: RAY_ADDRESS, else the cluster that `ray start` has noted down on this node.
    Raises ConfigError if there is neither."""
    from ray._common.utils import get_ray_address_file

    named = os.environ.get("RAY_ADDRESS", "")
    if named and named != AUTO:
        return named
    try:
        text = Path(get_ray_address_file(None)).read_text().strip()
    except OSError:
        text = ""
    if not text:
        raise ConfigError(field, AUTO, "no Ray cluster was started on this node", _REMEDY)
    return text


def connect(cluster_address: str = "", object_store_mib: int | None = None) -> Resources:
    """Joins the cluster at ``cluster_address`` or RAY_ADDRESS, else starts Ray on this machine. Does nothing if
    connected already. ``object_store_mib`` bounds the object store of a Ray started here (None: Ray's own choice).
    Raises ConfigError if no cluster answers."""
    place = joins_cluster(cluster_address)
    torch.set_num_threads(1)  # the driver packs and counts; torch's own choice is a thread for each core of the host
    if not ray.is_initialized():
        # Actors' tracebacks reach the driver as exceptions; what else they print stays in Ray's logs.
        settings: dict[str, Any] = {
            "logging_level": logging.ERROR,
            "log_to_driver": bool(os.environ.get("CARERL_ACTOR_LOGS")),
            "runtime_env": {"env_vars": jobs.free_of_job(ACTOR_ENVIRONMENT)},
        }
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if place:
            check_address(cluster_address)
            _join(place, settings)
        else:
            _start_here(object_store_mib, settings)
    total = ray.cluster_resources()
    return Resources(total.get("CPU", 0.0), total.get("GPU", 0.0), bool(place))


def _join(place: str, settings: dict[str, Any]) -> None:
    """Joins a cluster. Raises ConfigError."""
    try:
        ray.init(address=place, **settings)
    except Exception as error:
        remedy = _REMEDY
        if not access.sends_token():
            remedy += f"; or, if it says InvalidAuthToken: {access.WHERE_THE_TOKEN_IS}"
        reason = f"no Ray cluster could be joined there ({error})"
        raise ConfigError("cluster.address", place, reason, remedy) from error


def _start_here(object_store_mib: int | None, settings: dict[str, Any]) -> None:
    """Starts Ray on this machine. Raises ConfigError."""
    check_temporary()
    if os.environ.get("RAY_AUTH_MODE", "token") == "token":
        with contextlib.suppress(OSError):  # Ray then makes its own, or says why it cannot
            access.make_token()
    # On a machine of its own a run need not give way to others: Ray would start its workers at niceness 15.
    os.environ.setdefault("RAY_worker_niceness", "0")
    store = object_store_mib * 2**20 if object_store_mib else None
    try:
        # "local", so that a cluster which somebody else left on this machine is not joined by accident
        ray.init(address=LOCAL, include_dashboard=False, object_store_memory=store, **settings)
    except OSError as error:  # a full disk, or a limit on files or processes
        reason = f"Ray could not be started on this machine ({type(error).__name__}: {error})"
        raise ConfigError("RAY_TMPDIR", os.environ.get("RAY_TMPDIR"), reason, "mend that, or set it") from error


def address() -> str:
    """Returns the address at which another process of this machine can join the cluster."""
    return str(ray.get_runtime_context().gcs_address)


@contextmanager
def cluster(cluster_address: str = "", object_store_mib: int | None = None) -> Iterator[Resources]:
    """Connects to a cluster for the length of the block. A cluster started here ends with it."""
    try:
        yield connect(cluster_address, object_store_mib)
    finally:
        _shut_down()


SHUT_DOWN_S = 20.0


def _shut_down() -> None:
    """Leaves the cluster. If that does not end, because the head is gone, has this process leave without it."""
    if not in_time(ray.shutdown, SHUT_DOWN_S).ended:
        terminal.endings.append(_leave)


def _leave(code: int) -> NoReturn:
    """Ends this process with its exit code. Python's own end would wait for the cluster again, until Ray ends the
    process with another code."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
