"""Saving a checkpoint when something goes wrong: the process ends at any point, the disk is full, a rank's files are
nowhere to be seen. Weights are a stand-in; the files and the file systems are real. What is read back is
test_checkpoints's and backends/test_learner_files's."""

from __future__ import annotations

import gc
import io
import os
import resource
import shutil
import signal
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from carerl.backends.hashed import Written, hashed
from carerl.config.load import dump, load
from carerl.config.stored import newest_checkpoint
from carerl.config.stored_weights import SINGLE
from carerl.controller import checkpoints
from carerl.controller.ending import disk
from carerl.runs import commit
from carerl.runs.directory import RunDirectory
from carerl.runs.loop_state import LoopState
from carerl.tracking.display import QuietDisplay
from carerl.types import RunError
from tests.controller.ending.disks import fill, small_disk

WORDS = ["recipe=care_grpo_tiny", "checkpoint.keep=2"]


class Learner:
    """Two ranks that write files of a size."""

    def __init__(self, size: int = 1000) -> None:
        self.size = size
        self.hidden: tuple[str, ...] = ()  # files that only the rank's own node sees

    def save(self, directory: Path, model: Path, tokenizer: Any, dtype: str) -> Writing:
        content = b"w" * self.size  # the copy: what comes later is not in it
        return Writing(lambda: self._write(content, directory, model))

    def _write(self, content: bytes, directory: Path, model: Path) -> dict[str, Written]:
        written: dict[str, Written] = {}
        for folder in (directory, model):
            folder.mkdir(parents=True)
        for name in ("config.json", "generation_config.json"):
            (model / name).write_text("{}")
        for path in (*(directory / n for n in (".metadata", "__0_0.distcp", "__1_0.distcp")), model / SINGLE):
            with hashed(path, written) as file:
                file.write(content)
            if path.name in self.hidden:
                path.unlink()
        return written


class Writing:
    """Writes on a thread beside."""

    def __init__(self, write: Callable[[], dict[str, Written]]) -> None:
        self._written = ThreadPoolExecutor(1).submit(write)

    def ended(self) -> bool:
        return self._written.done()

    def files(self) -> dict[str, Written]:
        return self._written.result()


def save(made: Any, step: int) -> None:
    """Begins a checkpoint, and goes from step to step until it is there."""
    checkpoints.begin(made, step)
    while made.unfinished is not None:
        checkpoints.poll(made)


def context(place: Path, size: int = 1000) -> Any:
    config = replace(load(WORDS), run_dir=str(place))
    run = RunDirectory(place)
    run.checkpoints.mkdir(parents=True, exist_ok=True)
    run.config.write_text(dump(config))
    return SimpleNamespace(
        config=config, run=run, crew=SimpleNamespace(learner=Learner(size)), tokenizer=None, model_dir="",
        display=QuietDisplay(), loop=LoopState.after(config, 0, {}), unfinished=None,
    )  # fmt: skip


def steps(place: Path) -> list[int]:
    return [int(path.name.removeprefix("step_")) for path in (place / "checkpoints").glob("step_*")]


# ---- the process ends at any point --------------------------------------------------------------

POINTS = ("rename", "replace", "fsync", "mkdir", "unlink", "rmdir", "symlink")


def end_at(number: int) -> Callable[[], int]:
    """Has this process end, as by SIGKILL, instead of its ``number``-th call that changes a disk; returns what counts
    them."""
    count = 0

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                os._exit(9)
            return call(*arguments, **named)

        return instead

    for name in POINTS:
        setattr(os, name, watched(getattr(os, name)))
    io.open = watched(io.open)  # type: ignore[assignment]
    return lambda: count


def in_child(work: Callable[[], int]) -> int:
    """The exit code of a process forked from this one that does the work."""
    child = os.fork()
    if child == 0:
        gc.disable()  # what earlier tests left, Ray's objects say, would wait for threads that are not in this process
        code = 255
        try:
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def save_and_count(made: Any, step: int, number: int) -> int:
    counted = end_at(number)
    save(made, step)
    return counted()


@pytest.mark.slow
def test_a_run_killed_at_any_point_of_a_save_goes_on_from_the_newest_whole_checkpoint(tmp_path: Path) -> None:
    """The points of the thread that writes beside the steps, and those of the commit between two steps."""
    start = tmp_path / "start"
    made = context(start)
    for step in (50, 100):
        save(made, step)
    points = in_child(lambda: save_and_count(context(shutil.copytree(start, tmp_path / "all", symlinks=True)), 150, 0))
    assert 15 < points < 90
    found = []
    for number in range(1, points + 1):
        place = shutil.copytree(start, tmp_path / f"{number}", symlinks=True)
        assert in_child(lambda at=place, k=number: save_and_count(context(at), 150, k)) == 9  # type: ignore[misc]
        # one command goes on with it, whatever the pointer says
        assert load([*WORDS, f"run_dir={place}", "resume=auto"]).resume == str(place), number
        said: list[str] = []
        directory, state = commit.latest(place / "checkpoints", said.append)
        assert said == [] and directory == newest_checkpoint(place), number
        found.append(state["step"])
        again = context(place)
        checkpoints.go_back(again.run, directory, state["step"], said.append)
        save(again, 200)
        assert sorted(steps(place)) == sorted({100, 200} if state["step"] == 100 else {150, 200}), number
        assert (place / "checkpoints" / "latest").resolve() == place / "checkpoints" / "step_000200"
        assert not list((place / "checkpoints").glob(".*")), "nothing half written or half removed stays"
        shutil.rmtree(place)
    assert found == sorted(found) and set(found) == {100, 150}, "from the rename on it is the new one"


# ---- the disk is full ---------------------------------------------------------------------------


def check_untouched(made: Any, kept: int) -> None:
    folder = made.run.checkpoints
    assert [path.name for path in folder.glob(".step*")] == [], "nothing half written stays"
    assert newest_checkpoint(made.run.path) == made.run.checkpoint_dir(kept)
    assert commit.verify(made.run.checkpoint_dir(kept)) is None


def test_a_save_without_room_is_not_begun(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2) as place:
        made = context(place / "run", 200_000)
        save(made, 50)
        fill(place, leave=400_000)
        before = disk.free(place)
        made.crew.learner.save = None  # nobody is asked to write
        with pytest.raises(checkpoints.SaveFailed) as caught:
            save(made, 100)
        for part in ("checkpoint of step 100", "it takes about 80", "kB", "are free",
                     "The checkpoint of step 50 is untouched", f"resume={made.run.path}", "Make room"):  # fmt: skip
            assert part in str(caught.value), part
        assert disk.free(place) == before
        check_untouched(made, 50)


def test_a_disk_that_fills_up_in_a_save_is_told_and_left_clean(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2) as place:
        made = context(place / "run", 1000)
        save(made, 50)
        fill(place, leave=300_000)
        made.crew.learner.size = 200_000  # more than the last one's
        free = disk.free(place)
        with pytest.raises(checkpoints.SaveFailed, match="disk is full") as caught:
            save(made, 100)
        assert isinstance(caught.value, RunError) and "The checkpoint of step 50 is untouched" in str(caught.value)
        check_untouched(made, 50)
        assert disk.free(place) >= free - 8192
        (place / "filler").unlink()
        save(made, 100)
        check_untouched(made, 100)


def test_a_file_that_may_not_grow_is_a_full_disk_too(tmp_path: Path) -> None:
    """Without root: the kernel's limit on a file's size."""
    made = context(tmp_path / "run", 1000)
    save(made, 50)
    made.crew.learner.size = 300_000

    def limited() -> int:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            save(made, 100)
        except checkpoints.SaveFailed as error:
            return 5 if "disk is full" in str(error) else 6
        return 0

    assert in_child(limited) == 5
    check_untouched(made, 50)


def test_the_first_checkpoint_is_measured_by_the_model(tmp_path: Path) -> None:
    made = context(tmp_path / "run")
    size = disk.needed(made.config, "", made.run.path)
    assert 1_500_000 < size < 2_500_000, "12 + 4 bytes for each of 128,000 parameters"
    save(made, 50)
    assert disk.needed(made.config, "", made.run.path) == disk.size_of(made.run.checkpoint_dir(50)) < 8000


# ---- files that only another node sees ----------------------------------------------------------


def test_a_checkpoint_that_lacks_a_ranks_file_is_not_kept_and_nothing_is_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "SHARED_SECONDS", 0.3)
    made = context(tmp_path / "run")
    for step in (50, 100):
        save(made, step)
    made.crew.learner.hidden = ("__1_0.distcp",)
    with pytest.raises(RunError) as caught:
        save(made, 150)
    for part in ("learner/__1_0.distcp is not there", "not shared", "run_dir=", "all nodes see"):
        assert part in str(caught.value)
    assert sorted(steps(made.run.path)) == [50, 100]
    check_untouched(made, 100)
    assert (made.run.checkpoints / "latest").resolve() == made.run.checkpoint_dir(100)


def test_a_file_that_shows_late_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "learner"
    folder.mkdir()
    (folder / "shard").write_bytes(b"ha")  # a network's storage shows half of it
    child = os.fork()
    if child == 0:
        signal.sigtimedwait([], 0.5)
        (folder / "shard").write_bytes(b"whole")
        os._exit(0)
    checkpoints._check_seen(folder, {"shard": 5})
    assert (folder / "shard").stat().st_size == 5
    os.waitpid(child, 0)
