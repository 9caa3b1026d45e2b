"""A head that does not answer, nodes that are about to go, and actors that are ended: without Ray, on a clock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from carerl.actors.health import draining, ending, heads
from carerl.actors.health.asking import Asker, HeadGone, Member
from carerl.actors.health.draining import BLIND
from carerl.actors.health.heads import Head
from carerl.actors.health.timeouts import in_time


def until(met: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("how", ["raises", "never returns"])
def test_a_head_that_does_not_answer_is_told_of_once_and_then_not_waited_for(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "POLL_S", 0.01)
    clock, answers, told = [0.0], [True], list[str]()
    over = threading.Event()

    def look() -> None:
        if not answers[0]:
            if how == "raises":
                raise ConnectionError
            over.wait()

    head = Head(told.append, look, lambda: clock[0])
    with head.watched():
        clock[0] = 1000.0
        until(lambda: head.silent_s() == 0)
        assert not head.gone() and told == []
        answers[0] = False
        clock[0] += heads.LOST_S + 1
        until(lambda: told)
        assert head.lost() and not head.gone(), "there is time to save"
        clock[0] += heads.GONE_S
        assert "has died, or cannot be reached" in head.gone()
        with pytest.raises(HeadGone, match="start the cluster again"):
            Asker(lost=head.gone)._look([], {}, "train", 0.0, None)
        over.set()
    assert len(told) == 1 and not head.gone()


def test_a_run_is_told_before_ray_ends_it() -> None:
    assert heads.LOST_S + 15 < heads.GONE_S + 10 < 60, "Ray's own limit, in seconds"


def test_a_watch_for_draining_nodes_that_sees_nothing_says_so_once() -> None:
    """Ray's private call may be another one day; nodes must not be lost without a word for it."""
    said, told, looks = list[str](), list[str](), [0]

    def look() -> set[str]:
        looks[0] += 1
        raise AttributeError("get_draining_nodes")

    with draining.watched({"ab"}, told.append, said.append, look, 0.001):
        until(lambda: looks[0] > 3 * BLIND)
    assert len(said) == 1 and "AttributeError: get_draining_nodes" in said[0] and told == []


def test_a_moment_without_an_answer_is_passed_over_and_a_node_that_goes_is_told() -> None:
    said, told = list[str](), list[str]()
    answers: list[Any] = [*[OSError] * (BLIND - 1), set(), OSError, {"0123456789", "ffff"}]

    def look() -> set[str]:
        found = answers.pop(0)
        if found is OSError:
            raise OSError
        return found  # type: ignore[no-any-return]

    with draining.watched({"0123456789"}, told.append, said.append, look, 0.001):
        until(lambda: told)
    assert said == [] and told == ["node 01234567 is being drained"]


def test_rays_private_call_is_there() -> None:
    from ray._private.state import state

    assert callable(state.get_draining_nodes)


def test_every_actor_is_ended_whatever_the_first_does(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[str] = []

    def kill(actor: str) -> None:
        if actor == "first":
            raise RuntimeError("the head is gone")
        ended.append(actor)

    monkeypatch.setattr(ending.ray, "kill", kill)
    ending.end([], ["first", "second", "third"])
    assert ended == ["second", "third"]


def test_a_word_that_never_returns_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(ending.ray, "kill", lambda actor: over.wait())
    monkeypatch.setattr(ending, "KILL_S", 0.05)
    ending.end([], ["first"])
    over.set()


def test_only_actors_of_this_node_are_killed_and_no_other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending.ray, "kill", lambda actor: None)
    monkeypatch.setattr(ending.ray.util, "get_node_ip_address", lambda: "10.0.0.1")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        try:
            os.kill(other.pid, signal.SIGSTOP)
            until(lambda: ending.is_stopped(other.pid))
            ending.end([Member("learner 0", None, other.pid, "10.0.0.1")], [], head_gone=True)
            assert other.poll() is None, "that number is another process's by now"
            monkeypatch.setattr(ending, "is_actor", lambda pid: True)
            ending.end([Member("learner 0", None, other.pid, "10.0.0.2")], [])
            assert other.poll() is None, "another node's"
            ending.end([Member("learner 0", None, other.pid, "10.0.0.1")], [])
            assert other.wait(10) == -signal.SIGKILL
        finally:
            other.kill()


def test_a_call_in_time() -> None:
    def fail() -> None:
        raise OSError("no")

    assert in_time(lambda: 3, 5).value == 3
    assert isinstance(in_time(fail, 5).error, OSError)
    over = threading.Event()
    late = in_time(over.wait, 0.05)
    over.set()
    assert not late.ended and late.value is None
