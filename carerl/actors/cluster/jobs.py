"""Submits Ray jobs and follows them; also says what a driver knows of the job that it runs in."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from carerl.actors.cluster import access
from carerl.actors.cluster.addresses import Place, unanswered
from carerl.errors import ConfigError
from carerl.types import RunError

ADDRESS = "http://127.0.0.1:8265"  # of the dashboard of a head on this machine
GRACE_VARIABLE = "RAY_JOB_STOP_WAIT_TIME_S"
RAYS_GRACE = 3  # seconds between SIGTERM and SIGKILL if nobody sets GRACE_VARIABLE
_CONFIG_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # what Ray tells a job's driver of its job
_UNPACKED = "runtime_resources/working_dir_files"  # where Ray unpacks a job's working directory, for as long as it runs
_NOT_YET = "No available agent"  # the answer of a head that has just been started
_NO_AGENT = (
    "\nremedy: wait for the head with patience=60; where another Ray on the machine holds port 52365, "
    "start the head with --dashboard-agent-listen-port=0"
)
POLL_SECONDS = 1.0
QUIET_SECONDS = 300.0
TRIES_FOR_THE_REST = 3


class JobError(RunError):
    """Says that the cluster does not take a job, or does not say what became of it."""


@dataclass(frozen=True)
class Ended:
    """Says how a job ended: Ray's word for it, and the exit code of its command."""

    status: str
    exit_code: int


def client(address: str, patience: float = 0.0) -> Any:
    """Returns a client of the cluster's job server, which may take ``patience`` seconds to answer. Raises
    ConfigError."""
    place = place_of(address)
    access.check_open("address", address, place.host)
    # Ray prefers this variable, or RAY_ADDRESS, over the address passed to its client.
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    if reason := unanswered(place, patience, grpc=False):
        raise ConfigError("address", address, f"no job server answers: {reason}", "start one with: ray start --head")
    from ray.job_submission import JobSubmissionClient

    deadline = time.monotonic() + patience
    while True:
        try:
            return JobSubmissionClient(address)
        except Exception as error:  # from the network, the server or authentication
            if time.monotonic() >= deadline or _is_refusal(error):
                raise _unreachable(address, error) from error
            time.sleep(POLL_SECONDS)


def place_of(address: str) -> Place:
    """Returns the host and port of a job server. Raises ConfigError if the address is no such server's."""
    remedy = "write address=http://HEAD:8265, the job server of the cluster's head"
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or any(mark in address for mark in " \t\n"):
        raise ConfigError("address", address, "it is no job server's address", remedy)
    try:
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except ValueError:
        raise ConfigError("address", address, "its port is not valid: ports are 1 to 65535", remedy) from None
    return Place(parts.hostname, port)


def _is_refusal(error: Exception) -> bool:
    text = str(error).lower()
    return any(word in text for word in ("authentication", "unauthorized", "forbidden", "401", "403"))


def _unreachable(address: str, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split()) or type(error).__name__
    if _is_refusal(error):
        mode = os.environ.get("RAY_AUTH_MODE")
        return ConfigError("RAY_AUTH_MODE", mode, f"{address} refuses: {reason}", access.WHERE_THE_TOKEN_IS)
    return ConfigError("address", address, f"no job server answers: {reason}", "start one with: ray start --head")


def submit(
    client: Any,
    command: Sequence[str],
    facts: Mapping[str, str],
    *,
    grace: int,
    working_dir: str = "",
    excludes: Sequence[str] = (),
    name: str = "",
    patience: float = 0.0,
) -> str:
    """Submits a command and returns the job's id.

    ``facts``: labels of the job. ``grace``: seconds that ``ray job stop`` leaves it to save. ``working_dir``: a folder
    that is sent along, without what matches ``excludes`` (patterns of .gitignore). ``name``: the id to give it.
    ``patience``: seconds for which a head that has just been started may refuse jobs. Raises JobError."""
    deadline = time.monotonic() + patience
    runtime_env: dict[str, Any] = {"env_vars": {GRACE_VARIABLE: str(grace)}}
    if working_dir:
        runtime_env |= {"working_dir": working_dir, "excludes": list(excludes)}
    while True:
        try:
            return str(
                client.submit_job(
                    entrypoint=shlex.join(command),
                    submission_id=name or None,
                    runtime_env=runtime_env,
                    metadata=dict(facts),
                )
            )
        except Exception as error:  # the server's answer, in its own words
            if _NOT_YET not in str(error) or time.monotonic() >= deadline:
                hint = _NO_AGENT if _NOT_YET in str(error) else ""
                raise JobError(f"the cluster does not take the job: {error}{hint}") from error
            time.sleep(POLL_SECONDS)


def follow(client: Any, job: str, show: Callable[[str], None], patience: float = 300.0) -> Ended:
    """Shows a job's output until it ends, and returns how it ended.

    A broken connection says nothing about the job: output is resumed where it broke off. Raises JobError if the server
    has not said for ``patience`` seconds what became of the job."""
    shown = 0  # characters
    told = False  # was it said that the connection is broken?
    unheard: float | None = None  # since when the server has not answered
    tries = 0  # to get the rest of the output of a job that has ended

    async def tail() -> None:
        """Shows output until it ends, or until none has come for a while: a connection may be lost unnoticed."""
        nonlocal shown, told
        seen = 0
        chunks = aiter(client.tail_job_logs(job))  # from the beginning, each time
        while True:
            try:
                lines = await asyncio.wait_for(anext(chunks), QUIET_SECONDS)
            except (StopAsyncIteration, TimeoutError):
                return
            seen += len(lines)
            if seen > shown:
                show(lines[len(lines) - (seen - shown) :])
                shown, told = seen, False

    while True:
        failure: Exception | None = None
        try:
            asyncio.run(tail())
        except Exception as error:  # whatever the libraries below raise for a broken network
            failure = error
        try:
            info = client.get_job_info(job)
            ended, unheard = _ended(info), None
        except Exception as error:
            ended, failure = None, error
            now = time.monotonic()
            unheard = unheard or now
            if now - unheard >= patience:
                reason = f"for {patience:.0f} s job {job} could not be asked ({error})"
                raise JobError(f"{reason}; it may still be running: ray job status {job}") from error
        if failure is not None and not told:
            told = True
            show(f"\nthe output of job {job} breaks off ({failure or type(failure).__name__})\n")
        if ended is not None:
            if failure is None or tries == TRIES_FOR_THE_REST:
                if ended.status == "FAILED" and info.driver_exit_code is None:
                    show(f"\n{info.message}\n")  # its command never started
                return ended
            tries += 1
        time.sleep(POLL_SECONDS)


def _ended(info: Any) -> Ended | None:
    """Returns how a job ended; None while it runs."""
    status = str(getattr(info.status, "value", info.status))
    if status == "SUCCEEDED":
        return Ended(status, 0)
    if status == "STOPPED":
        return Ended(status, 143)  # as a shell reports SIGTERM
    if status == "FAILED":
        return Ended(status, info.driver_exit_code or 1)
    return None


def runs_in_job() -> bool:
    """Returns True if this process is the driver of a job."""
    return _CONFIG_VARIABLE in os.environ


def short_grace() -> str:
    """Returns a warning for a job to which ``ray job stop`` leaves hardly any time to save; '' otherwise."""
    given = os.environ.get(GRACE_VARIABLE, "")
    seconds = int(given) if given.isdigit() else RAYS_GRACE
    if not runs_in_job() or seconds > RAYS_GRACE:
        return ""
    example = json.dumps({"env_vars": {GRACE_VARIABLE: "300"}})
    return (
        f"`ray job stop` leaves this run {seconds} s to save, which is Ray's default; for more, submit it with "
        f"python -m carerl.job, or with --runtime-env-json '{example}'"
    )


def free_of_job(variables: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment variables for actors without those that the job sets itself: Ray refuses duplicates."""
    told = json.loads(os.environ.get(_CONFIG_VARIABLE) or "{}")
    taken = (told.get("runtime_env") or {}).get("env_vars") or {}
    return {name: value for name, value in variables.items() if name not in taken}


def check_storage(field: str, path: str) -> None:
    """Refuses to write into the copy of a job's working directory, which Ray removes after the job. Raises
    ConfigError."""
    place = Path(path).expanduser().absolute()
    if runs_in_job() and _UNPACKED in place.resolve().as_posix():
        raise ConfigError(
            field,
            path,
            f"it would be {place}, in the copy of the working directory that Ray removes when the job ends",
            f"write {field}=/…, an absolute path on storage that all nodes share",
        )
