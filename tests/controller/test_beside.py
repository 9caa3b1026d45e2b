"""Checkpoints that are written while the next steps are taken. The runs are real, with their workers in this process;
the disk is made slow by a gate that the thread which writes waits at.

Each point at which a process can end is test_saving's; Ray's own threads are tests/e2e/test_pipeline.py's."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from carerl.actors.health.failures import ActorDied, ActorFailed, ActorRaised, Where
from carerl.backends import hashed
from carerl.config.load import load
from carerl.config.rehearsal import rehearsed
from carerl.config.stored import committed, newest_checkpoint
from carerl.controller import checkpoints, launch
from carerl.controller.ending.stopping import StopFlag
from carerl.controller.loops.step import Step
from carerl.controller.preparation import prepare
from carerl.runs import commit
from carerl.tracking.display import QuietDisplay
from carerl.types import RunError
from tests.actors.in_process import crew_in_process
from tests.controller.rehearsal.test_rehearsal import WORDS, base_model  # noqa: F401 (a fixture)
from tests.controller.test_saving import context

WAIT_S = 60.0
WEIGHTS = (".distcp", ".safetensors", ".metadata")


@dataclass
class Disk:
    """Whatever the writing thread hashes waits at a gate before its first byte, and meets a fault after its last."""

    gate: threading.Event = field(default_factory=threading.Event)
    fault: OSError | None = None

    def open(self, *arguments: Any) -> Any:
        assert threading.current_thread() is not threading.main_thread()
        assert self.gate.wait(WAIT_S), "nobody opened the gate"
        return open(*arguments)

    def fsync(self, real: Callable[[int], None], file: int) -> None:
        if self.fault is not None and threading.current_thread() is not threading.main_thread():
            raise self.fault
        real(file)


class At(QuietDisplay):
    """Looks at the run as each step is shown."""

    def __init__(self, look: Callable[[int], None]) -> None:
        self._look = look

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        self._look(step)


class Opened:
    """Files that this process opens to read while it is on. Python keeps an audit hook to the process's end."""

    def __init__(self) -> None:
        self.on, self.paths = False, []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or event != "open" or not isinstance(arguments[0], str | os.PathLike):
            return
        _, mode, flags = arguments
        if "r" in mode if mode else flags & os.O_ACCMODE == os.O_RDONLY:
            self.paths.append(os.fspath(arguments[0]))

    @contextmanager
    def watching(self) -> Iterator[list[str]]:
        self.on, self.paths = True, []
        try:
            yield self.paths
        finally:
            self.on = False


OPENED = Opened()


def run(
    model: Path, words: list[str], disk: Disk, look: Callable[[int], None] = lambda step: None, stop: Any = None
) -> launch.Result:
    """A run of four steps that saves after the second one."""
    small = rehearsed(load([*WORDS, f"model.path={model}"])) if words[0].startswith("run_dir") else load(words)
    if words[0].startswith("run_dir"):
        small.run_dir, small.tracking.wandb = words[0].removeprefix("run_dir="), "off"
        small.checkpoint.every, small.steps = 2, 4
    real = os.fsync
    with pytest.MonkeyPatch.context() as patch, crew_in_process(patch) as actors:
        patch.setattr(os, "fsync", lambda file: disk.fsync(real, file))
        patch.setattr(hashed, "open", disk.open, raising=False)
        return launch.run(
            small, actors, str(model), At(look), StopFlag() if stop is None else stop, prepare(small, str(model))
        )


def sums(checkpoint: Path) -> dict[str, str]:
    """A manifest without torch's metadata, which has an id drawn for each save."""
    found: dict[str, str] = json.loads((checkpoint / "manifest.json").read_text())
    assert found.pop("learner/.metadata")
    return found


@pytest.fixture(scope="module")
def whole(base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A run on a fast disk."""
    place = tmp_path_factory.mktemp("whole") / "run"
    disk = Disk()
    disk.gate.set()
    assert run(base_model, [f"run_dir={place}"], disk).status == "completed"
    return place


def test_steps_are_taken_while_a_checkpoint_is_written(
    base_model: Path,  # noqa: F811
    whole: Path,
    tmp_path: Path,
) -> None:
    place, disk, seen = tmp_path / "run", Disk(), []

    def look(step: int) -> None:
        here = sorted(path.name for path in (place / "checkpoints").iterdir()) if step > 2 else []
        seen.append((step, here))
        if step == 4:
            disk.gate.set()

    with OPENED.watching() as opened:
        run(base_model, [f"run_dir={place}"], disk, look)
    assert seen == [(1, []), (2, []), (3, [".step_000002.partial"]), (4, [".step_000002.partial"])]
    found = dict(committed(place / "checkpoints"))
    assert sorted(found) == [2, 4]
    for step, path in found.items():
        assert sums(path) == sums(whole / "checkpoints" / path.name), "the state of that step, and of no later one"
        for name, digest in json.loads((path / "manifest.json").read_text()).items():
            assert hashlib.sha256((path / name).read_bytes()).hexdigest() == digest, (step, name)
    inside = [path for path in opened if "/.step_" in path and Path(path).suffix]
    assert any(path.endswith("config.json") for path in inside), "or this test sees nothing"
    assert [path for path in inside if path.endswith(WEIGHTS)] == [], "weights are hashed on their way to the disk"


def test_a_stop_while_one_is_written_completes_it_and_saves_the_step(
    base_model: Path,  # noqa: F811
    whole: Path,
    tmp_path: Path,
) -> None:
    place, disk, stop = tmp_path / "run", Disk(), StopFlag()

    def look(step: int) -> None:
        if step == 3:
            assert (place / "checkpoints" / ".step_000002.partial").is_dir()
            signal.raise_signal(signal.SIGTERM)
            disk.gate.set()

    with stop:
        result = run(base_model, [f"run_dir={place}"], disk, look, stop)
    assert (result.status, result.step, result.exit_code) == ("interrupted", 3, 143)
    assert [step for step, path in committed(place / "checkpoints") if commit.verify(path) is None] == [2, 3]
    assert list((place / "checkpoints").glob(".*")) == []
    hashes: list[str] = []
    real = commit.sha256
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit, "sha256", lambda file: hashes.append(file.name) or real(file))
        assert run(base_model, [f"resume={place}"], disk).status == "completed"
    assert sums(place / "checkpoints" / "step_000004") == sums(whole / "checkpoints" / "step_000004")
    assert hashes.count("__0_0.distcp") == 1, "verified once"


def test_a_failure_of_the_writing_thread_ends_the_run_and_leaves_earlier_checkpoints(
    base_model: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    place, disk, steps = tmp_path / "run", Disk(), []
    disk.gate.set()

    def look(step: int) -> None:
        steps.append(step)
        if step == 4:
            disk.fault = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "shard")

    with pytest.raises(checkpoints.SaveFailed, match="disk is full") as caught:
        run(base_model, [f"run_dir={place}"], disk, look)
    assert "The checkpoint of step 2 is untouched" in str(caught.value) and steps == [1, 2, 3, 4]
    assert commit.verify(place / "checkpoints" / "step_000002") is None
    assert sorted(path.name for path in (place / "checkpoints").iterdir()) == ["latest", "step_000002"]


def test_a_run_that_fails_meanwhile_still_has_the_checkpoint(
    base_model: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    place, disk = tmp_path / "run", Disk()

    def look(step: int) -> None:
        if step == 3:
            assert newest_checkpoint(place) is None
            disk.gate.set()
            raise RunError("what ended it")

    with pytest.raises(RunError, match="what ended it") as caught:
        run(base_model, [f"run_dir={place}"], disk, look)
    assert commit.verify(place / "checkpoints" / "step_000002") is None
    assert "saved is step 2" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    "meanwhile", [OSError("no permission"), RunError("a file is not seen"), checkpoints.SaveFailed("full")]
)
def test_what_ended_a_run_is_told_whatever_befalls_its_checkpoint(
    monkeypatch: pytest.MonkeyPatch, meanwhile: Exception
) -> None:
    def fails(context: Any) -> None:
        raise meanwhile

    monkeypatch.setattr(checkpoints, "finish", fails)
    with pytest.raises(RunError, match="what ended it") as caught, checkpoints.rescued(SimpleNamespace()):  # type: ignore[arg-type]
        raise RunError("what ended it")
    assert caught.value.__notes__ == [str(meanwhile)]


# ---- with a stand-in for the learner --------------------------------------------------------------


class Ended:
    """What a handle gives back when an actor has failed."""

    def __init__(self, error: ActorFailed) -> None:
        self.error = error

    def ended(self) -> bool:
        return True

    def files(self) -> Any:
        raise self.error


@pytest.mark.parametrize("kind", [ActorRaised, ActorDied])
def test_an_actor_that_fails_as_it_writes(kind: type[ActorFailed], tmp_path: Path) -> None:
    """A full disk on its node is told as one; a process that has died, as such. The next look between steps says so."""
    made = context(tmp_path / "run")
    checkpoints.begin(made, 50)
    checkpoints.finish(made)
    where = Where("learner 1", 7, "10.0.0.2", "save", 3.0)
    failure = kind(where, "OSError: [Errno 28] No space left on device", "make room")
    failure.exit_code = 143
    made.crew.learner.save = lambda *arguments: Ended(failure)
    checkpoints.begin(made, 100)
    with pytest.raises(RunError) as caught:
        checkpoints.poll(made)
    assert caught.value.exit_code == 143 and "learner 1 (pid 7, node 10.0.0.2)" in str(caught.value)
    if kind is ActorRaised:
        assert isinstance(caught.value, checkpoints.SaveFailed) and "the disk is full" in str(caught.value)
        assert "The checkpoint of step 50 is untouched" in str(caught.value)
    else:
        assert caught.value is failure
    assert sorted(path.name for path in made.run.checkpoints.iterdir()) == ["latest", "step_000050"]
    assert commit.verify(made.run.checkpoint_dir(50)) is None
    checkpoints.finish(made)  # it is told once


def test_each_step_looks_whether_it_is_written(tmp_path: Path) -> None:
    made = context(tmp_path / "run")
    made.stop = StopFlag()
    checkpoints.begin(made, 50)
    made.unfinished.writing.files()
    assert committed(made.run.checkpoints) == []
    assert Step(made, None, 51).keep() is False  # type: ignore[arg-type]
    assert [step for step, _ in committed(made.run.checkpoints)] == [50] and made.unfinished is None


def test_a_second_one_waits_for_the_first(tmp_path: Path) -> None:
    """Two copies at a time may not fit into memory."""
    made = context(tmp_path / "run")
    checkpoints.begin(made, 50)
    real = made.crew.learner.save

    def copied(*arguments: Any) -> Any:
        assert committed(made.run.checkpoints) == [(50, made.run.checkpoint_dir(50))]
        return real(*arguments)

    made.crew.learner.save = copied
    checkpoints.begin(made, 100)
    checkpoints.finish(made)
    assert [step for step, _ in committed(made.run.checkpoints)] == [50, 100]
