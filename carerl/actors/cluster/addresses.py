"""Checks addresses of Ray clusters: their form, whether one is this machine's, and whether anything answers there.

Ray itself tries an address for fourteen minutes. Here it is checked first, in seconds.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from carerl.actors.health.timeouts import in_time
from carerl.errors import ConfigError

LOCAL, AUTO = "local", "auto"
PATIENCE_S = 15.0  # a head may just be starting
TRY_S = 10.0  # for one connection, or for looking up a name
FORM = "write host:port, for instance 10.0.0.5:6379 or [fd00::5]:6379"
# An HTTP/2 client's first words, as gRPC speaks them, with empty settings: a server answers with its own.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_SETTINGS = 4


@dataclass(frozen=True)
class Place:
    """Names a host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def cluster_place(field: str, text: str) -> Place:
    """Returns the host and port of a cluster's address. Raises ConfigError if it is no such address."""
    scheme, mark, _ = text.partition("://")
    if mark and scheme == "ray":
        raise ConfigError(
            field, text, "a run is a driver within the cluster, and ray:// is for clients outside of it",
            "submit it: python -m carerl.job recipe=… address=http://HEAD:8265; or give the cluster's own address, "
            "HEAD:6379, from a node of it",
        )  # fmt: skip
    if mark and scheme in ("http", "https"):
        raise ConfigError(
            field, text, "that is a job server's address", f"submit the run: python -m carerl.job … address={text}"
        )
    if mark:
        raise ConfigError(field, text, f"a cluster's address has no {scheme}://", FORM)
    found = re.fullmatch(r"\[([^\[\]]+)\]:([^:]*)|([^:\[\]/\s]+):([^:]*)", text)
    if found is None:
        known = f", or {LOCAL}" if field == "cluster.address" else ""
        raise ConfigError(field, text, "it is no host and port", f"{FORM}; {AUTO} finds a cluster on this node{known}")
    host, port = found[1] or found[3], found[2] if found[1] else found[4]
    if found[1] and not _is_ip(host):
        raise ConfigError(field, text, "what stands in brackets is no IPv6 address", FORM)
    return Place(host, port_of(field, text, port))


def port_of(field: str, text: str, port: str) -> int:
    """Returns a port's number. Raises ConfigError if it is no port."""
    if not (port.isascii() and port.isdigit()) or not 1 <= int(port) <= 65535:
        raise ConfigError(field, text, f"{port or 'nothing'} is no port: ports are 1 to 65535", FORM)
    return int(port)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host.rstrip(".").lower() == "localhost"


def is_here(host: str) -> bool:
    """Returns True for an address of this machine: what is sent there crosses no network."""
    if is_loopback(host):
        return True
    found = in_time(lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM), TRY_S).value
    return bool(found) and all(_is_own(entry[0], entry[4]) for entry in found or [])


def _is_own(family: int, address: tuple[object, ...]) -> bool:
    try:
        with socket.socket(family) as probe:
            probe.bind((address[0], 0, *address[2:]))
    except OSError:
        return False
    return True


def unanswered(place: Place, patience: float = PATIENCE_S, grpc: bool = True) -> str:
    """Returns in words why nothing of Ray's answers there; '' if something does. ``patience``: for how many seconds a
    refusal is tried again. ``grpc``: True for a cluster's head, False for a job server."""
    deadline = time.monotonic() + patience
    while True:
        reason = _try(place, grpc and os.environ.get("RAY_USE_TLS", "0") != "1")
        if not reason or time.monotonic() >= deadline:
            return reason
        time.sleep(0.5)


def _try(place: Place, grpc: bool) -> str:
    """Tries to connect once; returns in words why it failed, or ''."""
    tried = in_time(lambda: socket.create_connection((place.host, place.port), TRY_S), 2 * TRY_S)
    found, error = tried.value, tried.error
    if found is None:
        if isinstance(error, socket.gaierror):
            return f"no host has the name {place.host} ({error.strerror})"
        if error is None or isinstance(error, TimeoutError):
            return f"nothing answers at {place} within {TRY_S:.0f} s: the host is down, or a firewall is in the way"
        return f"{place} cannot be reached ({getattr(error, 'strerror', None) or error})"
    with found:
        if not grpc:
            return ""
        try:
            found.settimeout(TRY_S)
            found.sendall(_HELLO)
            head = b""
            while len(head) < 9 and (more := found.recv(9 - len(head))):
                head += more
        except OSError:
            head = b""
    return "" if len(head) == 9 and head[3] == _SETTINGS else f"what listens at {place} is no Ray cluster's head"


# ---- the directory that Ray's sockets lie in --------------------------------------------------------------

SOCKET_LIMIT = 107  # bytes of a path, of Linux
_WITHIN = "/ray/session_2026-01-01_00-00-00_000000_{pid}/sockets/plasma_store"  # the longest that Ray makes
SHARED_MEMORY = Path("/dev/shm")


def check_temporary(shared_memory: Path = SHARED_MEMORY) -> None:
    """Refuses a directory for temporary files in which a Ray started here would not work. Raises ConfigError."""
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), "RAY_TMPDIR")
    text = os.environ.get(name, "/tmp")
    remedy = f"set RAY_TMPDIR to a short directory on this node's own disk, for instance RAY_TMPDIR=/tmp/{os.getuid()}"
    if not text.strip():
        raise ConfigError(name, text, "it is empty, and Ray would write into the working directory", f"unset {name}")
    if not os.path.isabs(text):
        raise ConfigError(name, text, "it is no absolute path", remedy)
    longest = SOCKET_LIMIT - len(_WITHIN.format(pid=os.getpid()))
    if len(os.fsencode(text)) > longest:
        reason = f"its name has {len(os.fsencode(text))} bytes; Ray's sockets fit in a directory of {longest} at most"
        raise ConfigError(name, text, reason, remedy)
    if reason := _unwritable(Path(text) / "ray"):
        raise ConfigError(name, text, reason, remedy)
    if shared_memory.is_dir() and not os.access(shared_memory, os.W_OK | os.X_OK):
        reason = "this process may not write there, and Ray keeps its object store in it"
        raise ConfigError(str(shared_memory), None, reason, f"let it: chmod 1777 {shared_memory}")


def _unwritable(place: Path) -> str:
    """Returns in words why no file can be made in a directory, which may still have to be made itself; '' if one can.
    Does not make the directory: Ray does, for all users of the machine."""
    for parent in (place, *place.parents):
        try:
            if parent.is_dir():
                tempfile.TemporaryFile(dir=parent).close()
                return ""
            if parent.exists() or parent.is_symlink():
                return f"{parent} is no directory"
        except OSError as error:
            return f"nothing can be written to {parent} ({error.strerror})"
    return ""
