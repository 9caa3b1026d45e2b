"""Turns at the cache: while another process builds, who waits says for whom, and can be stopped."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from carerl.config.load import base_config, load
from carerl.controller import base, cache
from carerl.controller.cache import turn
from carerl.controller.stopping import Interrupted, StopFlag
from carerl.report.display import QuietDisplay


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "base-s1-abc"


@pytest.fixture
def builder(target: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """Another process, which has the turn until a line is written to it."""
    monkeypatch.setattr(cache, "SLICE_S", 0.05)
    monkeypatch.setattr(cache, "TELL_S", 0.2)
    script = textwrap.dedent(f"""
        from pathlib import Path
        from carerl.controller.cache import turn
        with turn(Path({str(target)!r})):
            print("has it", flush=True)
            input()
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "has it\n"
    yield process
    process.kill()
    process.wait()
    assert process.stdin is not None
    process.stdin.close()
    process.stdout.close()


def test_who_waits_says_for_whom_and_gets_its_turn(target: Path, builder: subprocess.Popen[str]) -> None:
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if len(said) == 2 and builder.stdin is not None:
            builder.stdin.write("\n")
            builder.stdin.flush()

    with turn(target, say=say):
        assert target.with_name(f"{target.name}.holder").read_text().startswith(f"process {os.getpid()} on ")
        with turn(target):
            pass  # again, by the same process
        assert target.with_name(f"{target.name}.lock").exists()
    assert len(said) >= 2
    assert all(f"process {builder.pid} on {os.uname().nodename}" in text and target.name in text for text in said)


def test_a_stop_ends_the_waiting(target: Path, builder: subprocess.Popen[str]) -> None:
    stop, said = StopFlag(), []

    def say(text: str) -> None:
        said.append(text)
        stop.request("a node goes away")

    with pytest.raises(Interrupted), turn(target, stop.check, say):
        raise AssertionError("it was not its turn")
    assert len(said) == 1


def test_a_builder_that_is_killed_keeps_nothing(target: Path, builder: subprocess.Popen[str]) -> None:
    with turn(target, say=lambda text: builder.kill()):
        pass


def test_a_run_waits_for_its_base_model_before_it_holds_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim is given up by whoever finds the model there, and held, again, by whoever builds it."""
    monkeypatch.setenv("CARERL_CACHE", str(tmp_path))
    config = load(["recipe=care_grpo_tiny"])
    target = base.base_directory(base_config(config))
    lock = target.with_name(f"{target.name}.lock")
    with base.claim(config, print) as held:
        assert lock.exists() and target.with_name(f"{target.name}.holder").exists()

        def build(base_settings: object, learner: object, place: Path, display: object, stop: object) -> None:
            assert place == target
            target.mkdir()

        monkeypatch.setattr(base, "_build", build)
        monkeypatch.setattr(base, "check_model_dir", lambda *_: None)
        learner: object = None
        assert base.model_directory(config, learner, QuietDisplay(), StopFlag()) == str(target)  # type: ignore[arg-type]
        held.close()
        assert not target.with_name(f"{target.name}.holder").exists()
    with base.claim(config, print):
        assert not target.with_name(f"{target.name}.holder").exists(), "it is there: nobody's turn is taken"
