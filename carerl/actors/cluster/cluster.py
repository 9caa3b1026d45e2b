"""Joining a Ray cluster, or starting one on this machine."""

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
from carerl.actors.health.patience import in_time
from carerl.errors import ConfigError
from carerl.text import terminal


@dataclass(frozen=True)
class Resources:
    """What a cluster has in all, in Ray's units. ``joined``: it is one that others started, and may grow."""

    cpus: float
    gpus: float
    joined: bool


# How long an idle OpenMP thread spins before it sleeps, in rounds: some tens of microseconds. Without a bound an idle
# actor's threads spin for milliseconds on the cores that the working one needs (two at work: ten times slower); with
# none at all every small operation pays for waking a thread (twice as slow).
ACTOR_ENVIRONMENT = {
    "GOMP_SPINCOUNT": "20000",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


def joins_cluster(cluster_address: str = "") -> str:
    """The address of the cluster that is joined; '' where Ray is started on this machine, as for ``local``."""
    address = cluster_address or os.environ.get("RAY_ADDRESS", "")
    return "" if address == LOCAL else address


def check_address(cluster_address: str = "") -> None:
    """Refuses the address of a cluster that cannot be joined: one of another form, another machine's without a token,
    or one at which no head answers within half a minute. Raises ConfigError."""
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
    """Why what speaks gRPC there is no cluster's head, in words. What it says of tokens is left to Ray."""
    try:
        from ray._raylet import GcsClient  # type: ignore[attr-defined]
    except ImportError:  # a private name of Ray's: its own patience decides then
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
    """What ``auto`` stands for: RAY_ADDRESS, else the cluster that `ray start` has noted down on this node."""
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
    Raises ConfigError where no cluster answers."""
    place = joins_cluster(cluster_address)
    torch.set_num_threads(1)  # the driver packs and counts; torch's own choice is a thread for each core of the host
    if not ray.is_initialized():
        # Actors print their own tracebacks through the driver's exception; their chatter stays in Ray's logs.
        settings: dict[str, Any] = {
            "logging_level": logging.ERROR,
            "log_to_driver": bool(os.environ.get("CARERL_ACTOR_LOGS")),
            "runtime_env": {"env_vars": jobs.free_of_job(ACTOR_ENVIRONMENT)},
        }
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        if place:
            check_address(cluster_address)
            try:
                ray.init(address=place, **settings)
            except Exception as error:
                remedy = _REMEDY
                if not access.sends_token():
                    remedy += f"; or, where it says InvalidAuthToken: {access.WHERE_THE_TOKEN_IS}"
                reason = f"no Ray cluster could be joined there ({error})"
                raise ConfigError("cluster.address", place, reason, remedy) from error
        else:
            check_temporary()
            if os.environ.get("RAY_AUTH_MODE", "token") == "token":
                with contextlib.suppress(OSError):  # Ray then makes its own, or says why it cannot
                    access.make_token()
            # On a machine of its own a run need not stand back: Ray would start its workers at niceness 15.
            os.environ.setdefault("RAY_worker_niceness", "0")
            # "local", so that a cluster left over on this machine by somebody else is not joined by accident.
            store = object_store_mib * 2**20 if object_store_mib else None
            try:
                ray.init(address=LOCAL, include_dashboard=False, object_store_memory=store, **settings)
            except OSError as error:  # of a full disk, of a limit on files or processes
                reason = f"Ray could not be started on this machine ({type(error).__name__}: {error})"
                raise ConfigError("RAY_TMPDIR", os.environ.get("RAY_TMPDIR"), reason, "mend that, or set it") from error
    total = ray.cluster_resources()
    return Resources(total.get("CPU", 0.0), total.get("GPU", 0.0), bool(place))


def address() -> str:
    """Where another process of this machine can join the cluster."""
    return str(ray.get_runtime_context().gcs_address)


@contextmanager
def cluster(cluster_address: str = "", object_store_mib: int | None = None) -> Iterator[Resources]:
    """A connection that is closed at the end; a cluster started here ends with it."""
    try:
        yield connect(cluster_address, object_store_mib)
    finally:
        _shut_down()


SHUT_DOWN_S = 20.0


def _shut_down() -> None:
    """Leaves the cluster. One whose head is gone may never let a driver go."""
    if not in_time(ray.shutdown, SHUT_DOWN_S).ended:
        terminal.endings.append(_leave)


def _leave(code: int) -> NoReturn:
    """Ends this process with its exit code. What Python does at its end would wait for the cluster again, until Ray
    ends the process with a code of its own."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
