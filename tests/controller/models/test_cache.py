"""The cache of base models: turns that can be waited for and stopped; whole or made again; nothing of killed builders
stays."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carerl.config.load import base_config, load
from carerl.config.schema import RunConfig
from carerl.controller.ending.stopping import Interrupted, StopFlag
from carerl.controller.models import base_model, cache
from carerl.controller.models.cache import put_in_place, remove_left_behind, turn
from carerl.runs.files import CHECKSUMS, changed_files, write_checksums
from carerl.tracking.display import QuietDisplay
from carerl.types import RunError

SMALL = [
    "model.shape.num_layers=1", "model.shape.hidden_size=32", "model.shape.num_heads=1", "model.shape.num_kv_heads=1",
]  # fmt: skip


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
        from carerl.controller.models.cache import turn
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
    target = base_model.base_directory(base_config(config))
    lock = target.with_name(f"{target.name}.lock")
    with base_model.claim(config, print) as held:
        assert lock.exists() and target.with_name(f"{target.name}.holder").exists()

        def build(base_settings: object, learner: object, place: Path, display: object, stop: object) -> None:
            assert place == target
            target.mkdir()

        monkeypatch.setattr(base_model, "_build", build)
        monkeypatch.setattr(base_model, "check_model", lambda *_: None)
        with pytest.raises(RunError, match="no learner to make it"):
            base_model.model_directory(config, None, QuietDisplay(), StopFlag())
        learner: Any = object()
        assert base_model.model_directory(config, learner, QuietDisplay(), StopFlag()) == str(target)
        held.close()
        assert not target.with_name(f"{target.name}.holder").exists()
    with base_model.claim(config, print):
        assert not target.with_name(f"{target.name}.holder").exists(), "it is there: nobody's turn is taken"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """A run from the untrained model of bytes, with a cache of its own."""
    monkeypatch.setenv("CARERL_CACHE", str(tmp_path / "cache"))
    return load(["recipe=care_grpo_tiny", "model.base_recipe=base_bytes", "model.shape.vocab_size=261", *SMALL])


def made(config: RunConfig) -> tuple[Path, list[str]]:
    """The base model's directory, made where it is not whole, and what was said."""
    said: list[str] = []
    place = base_model.base_directory(base_model.base_config(config))
    assert base_model.untrained_model(base_model.base_config(config), said.append) == str(place)
    return place, said


def test_a_base_model_is_written_with_its_checksums(settings: RunConfig) -> None:
    place, said = made(settings)
    assert said == [] and changed_files(place) == []
    listed = {line.split("  ")[1] for line in (place / CHECKSUMS).read_text().splitlines()}
    assert listed == {path.name for path in place.iterdir()} - {CHECKSUMS}
    assert subprocess.run(["sha256sum", "--check", "--quiet", CHECKSUMS], cwd=place).returncode == 0


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("fault", ["short", "empty", "gone", "changed"])
def test_a_damaged_base_model_is_made_again(settings: RunConfig, file: str, fault: str) -> None:
    place, _ = made(settings)
    whole = (place / file).read_bytes()
    if fault == "gone":
        (place / file).unlink()
    else:
        changed = {"short": whole[:-7], "empty": b"", "changed": whole[:-1] + bytes([whole[-1] ^ 1])}[fault]
        (place / file).write_bytes(changed)
    again, said = made(settings)
    assert again == place and len(said) == 1 and file in said[0] and "made again" in said[0]
    assert (place / file).read_bytes() == whole and changed_files(place) == []
    assert [path.name for path in place.parent.iterdir() if ".damaged" in path.name] == []


def test_a_base_model_without_checksums_is_judged_by_whether_it_loads(settings: RunConfig) -> None:
    place, _ = made(settings)
    (place / CHECKSUMS).unlink()
    assert made(settings)[1] == [], "one of an earlier version is taken"
    (place / "model.safetensors").write_bytes((place / "model.safetensors").read_bytes()[:-7])
    _, said = made(settings)
    assert len(said) == 1 and "model.safetensors cannot be read" in said[0] and (place / CHECKSUMS).is_file()


def test_all_of_a_directory_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename

    def noted_fsync(descriptor: int) -> None:
        steps.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def noted_rename(source: Path, target: Path) -> None:
        steps.append("renamed")
        rename(source, target)

    made_here = tmp_path / "made"
    made_here.mkdir()
    (made_here / "a").write_text("a")
    write_checksums(made_here)
    monkeypatch.setattr(cache.os, "fsync", noted_fsync)
    monkeypatch.setattr(cache.os, "rename", noted_rename)
    put_in_place(made_here, tmp_path / "cache" / "target")
    assert set(steps[:2]) == {"a", CHECKSUMS} and steps[2:] == ["made", "renamed", "cache"]


def test_what_killed_builders_left_is_removed_and_what_is_being_built_is_not(tmp_path: Path) -> None:
    for name, age in ((".m.1.partial", 2.0), (".m.2.partial", 0.1), (".other.1.partial", 2.0)):
        (tmp_path / name).mkdir()
        then = time.time() - age * cache.LEFT_BEHIND_S
        os.utime(tmp_path / name, (then, then))
    remove_left_behind(tmp_path / "m")
    assert {path.name for path in tmp_path.iterdir()} == {".m.2.partial", ".other.1.partial"}
