"""Addresses of clusters and job servers, as people type them, and directories that Ray cannot work in."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from carerl.actors.cluster import access, addresses, jobs
from carerl.actors.cluster import cluster as ray_cluster
from carerl.actors.cluster.addresses import Place, check_temporary, cluster_place, is_here, unanswered
from carerl.actors.cluster.cluster import check_address, joins_cluster
from carerl.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("10.0.0.5:6379", "10.0.0.5", 6379),
        ("head:6379", "head", 6379),
        ("ray-head.ns.svc.cluster.local:1", "ray-head.ns.svc.cluster.local", 1),
        ("localhost:65535", "localhost", 65535),
        ("[::1]:6379", "::1", 6379),
        ("[fe80::1%eth0]:6379", "fe80::1%eth0", 6379),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert cluster_place("cluster.address", text) == Place(host, port)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ray://head:10001", "carerl.job"),
        ("http://head:8265", "carerl.job … address=http://head:8265"),
        ("https://head", "job server"),
        ("redis://head:6379", "has no redis://"),
        ("head", "host:port"),
        ("127.0.0.1", "host:port"),
        ("6379", "host:port"),
        (":6379", "host:port"),
        ("head:", "nothing is no port"),
        ("head:abc", "abc is no port"),
        ("head:0", "1 to 65535"),
        ("head:65536", "1 to 65535"),
        ("head:-1", "1 to 65535"),
        ("head:٦٣٧٩", "1 to 65535"),
        ("head:6379/", "1 to 65535"),
        ("head: 6379", "1 to 65535"),
        ("::1:6379", "[fd00::5]:6379"),
        ("[::1]", "host:port"),
        ("[head]:6379", "no IPv6 address"),
        ("10.0.0.5;6379", "host:port"),
        ("my head:6379", "host:port"),
        (" ", "host:port"),
        ("Auto", "auto finds"),
    ],
)
def test_what_is_none_is_refused_with_the_form(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cluster_place("RAY_ADDRESS", text)
    assert caught.value.field == "RAY_ADDRESS" and said in str(caught.value)


def test_local_starts_a_ray_here_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.5:6379")
    assert joins_cluster("local") == "" and joins_cluster() == "10.0.0.5:6379" and joins_cluster("h:1") == "h:1"
    check_address("local")


def test_auto_is_the_cluster_that_was_noted_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(ConfigError, match="no Ray cluster was started on this node"):
        check_address("auto")
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    monkeypatch.setattr(addresses, "PATIENCE_S", 0.0)
    monkeypatch.setattr(ray_cluster, "unanswered", lambda place: f"asked {place}")
    with pytest.raises(ConfigError, match=r"asked 127\.0\.0\.1:1"):
        check_address("auto")


# ---- whether anything answers ------------------------------------------------------------------------------


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def web() -> Iterator[int]:
    class Quiet(BaseHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_nobody_a_stranger_and_a_name_of_none_are_told_apart(
    silent: int, web: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "TRY_S", 0.5)
    assert "cannot be reached" in unanswered(Place("127.0.0.1", 1), 0)
    assert "no Ray cluster's head" in unanswered(Place("127.0.0.1", silent), 0)
    assert "no Ray cluster's head" in unanswered(Place("127.0.0.1", web), 0)
    assert unanswered(Place("127.0.0.1", web), 0, grpc=False) == "", "of a job server no more is asked"
    assert "nohost.invalid" in unanswered(Place("nohost.invalid", 6379), 0)


def test_a_head_that_speaks_http2_is_taken() -> None:
    def serve(listener: socket.socket) -> None:
        with listener.accept()[0] as peer:
            peer.recv(64)
            peer.sendall(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        assert unanswered(Place("127.0.0.1", listener.getsockname()[1]), 0) == ""
        thread.join()


def test_another_machine_is_joined_with_a_token_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setattr(ray_cluster, "unanswered", lambda place: "nobody is there")
    for field, given in (("cluster.address", "203.0.113.9:6379"), ("RAY_ADDRESS", "")):
        monkeypatch.setenv("RAY_ADDRESS", "203.0.113.9:6379")
        with pytest.raises(ConfigError, match="no token to send") as caught:
            check_address(given)
        assert caught.value.field == field and "RAY_AUTH_MODE=disabled" in caught.value.remedy
    with pytest.raises(ConfigError, match="nobody is there"):
        check_address("127.0.0.1:1")  # what is sent there crosses no network
    for mode in ("token", "disabled"):
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
        with pytest.raises(ConfigError, match="nobody is there"):
            check_address("203.0.113.9:6379")


def test_this_machine_is_known_by_any_of_its_addresses() -> None:
    assert is_here("127.0.0.1") and is_here("localhost") and is_here("127.8.8.8")
    assert not is_here("203.0.113.9") and not is_here("nohost.invalid")


@pytest.mark.parametrize(
    "text",
    ["", " ", "head:8265", "127.0.0.1:8265", "auto", "ray://head:10001", "http://", "http://:8265", "http://h:99999",
     "http://h:abc", "ftp://h", "http://my head:8265", "head"],
)  # fmt: skip
def test_a_job_servers_address_is_a_web_address(text: str) -> None:
    with pytest.raises(ConfigError, match="http://HEAD:8265") as caught:
        jobs.client(text)
    assert caught.value.field == "address"


def test_a_job_server_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"no job server answers: 127\.0\.0\.1:1 cannot be reached"):
        jobs.client("http://127.0.0.1:1")
    assert jobs.place_of("http://head") == Place("head", 80)
    assert jobs.place_of("https://[::1]:8265/") == Place("::1", 8265)


def test_the_rule_for_tokens_is_one() -> None:
    assert not hasattr(jobs, "_check_open") and callable(access.check_open)


# ---- directories -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
def test_a_directory_whose_sockets_would_be_too_long_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(name, "/tmp/" + "d" * 60)
    with pytest.raises(ConfigError, match="65 bytes") as caught:
        check_temporary()
    assert caught.value.field == name and "RAY_TMPDIR=/tmp/" in caught.value.remedy


def test_the_limit_is_that_of_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest directory that is taken makes a path that can be bound, and one byte more does not."""
    within = len(addresses._WITHIN.format(pid=os.getpid()))
    for extra, refused in ((0, False), (1, True)):
        place = "/tmp/" + "d" * (addresses.SOCKET_LIMIT - within - len("/tmp/") + extra)
        monkeypatch.setenv("RAY_TMPDIR", place)
        with socket.socket(socket.AF_UNIX) as probe:
            with pytest.raises(OSError) as bound:
                probe.bind(place + addresses._WITHIN.format(pid=os.getpid()))
            assert ("too long" in str(bound.value)) is refused
        if refused:
            with pytest.raises(ConfigError):
                check_temporary()
        else:
            check_temporary()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("runs/tmp", "no absolute path"),
        ("~/tmp", "no absolute path"),
        ("{file}", "no directory"),
        ("{file}/below", "no directory"),
        ("/dev/null/x", "no directory"),
        ("/tmp/" + "ü" * 20, "45 bytes"),
    ],
)
def test_a_directory_that_ray_cannot_use_is_refused(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path("/tmp") / f"carerl-{os.getpid()}"  # pytest's own directories are too long for sockets
    file.write_text("")
    try:
        monkeypatch.setenv("RAY_TMPDIR", text.format(file=file))
        with pytest.raises(ConfigError, match=said) as caught:
            check_temporary()
        assert caught.value.field == "RAY_TMPDIR"
    finally:
        file.unlink()


def test_shared_memory_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", "/tmp")
    check_temporary(tmp_path)
    check_temporary(tmp_path / "none")
    monkeypatch.setattr(
        addresses.os, "access", lambda place, mode: False
    )  # as root finds no file that it may not write
    with pytest.raises(ConfigError, match="chmod 1777"):
        check_temporary(tmp_path)
