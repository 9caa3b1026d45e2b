"""Joining a Ray cluster, or starting one on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
import torch

from carerl.actors import access, jobs
from carerl.config.errors import ConfigError


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
    """The address of the cluster that is joined; '' where Ray is started on this machine."""
    return cluster_address or os.environ.get("RAY_ADDRESS", "")


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
            try:
                ray.init(address=place, **settings)
            except Exception as error:
                remedy = "start one with 'ray start --head', or leave cluster.address empty to run on this machine"
                if not access.sends_token():
                    remedy += f"; or, where it says InvalidAuthToken: {access.WHERE_THE_TOKEN_IS}"
                reason = f"no Ray cluster could be joined there ({error})"
                raise ConfigError("cluster.address", place, reason, remedy) from error
        else:
            # On a machine of its own a run need not stand back: Ray would start its workers at niceness 15.
            os.environ.setdefault("RAY_worker_niceness", "0")
            # "local", so that a cluster left over on this machine by somebody else is not joined by accident.
            store = object_store_mib * 2**20 if object_store_mib else None
            ray.init(address="local", include_dashboard=False, object_store_memory=store, **settings)
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
        ray.shutdown()
