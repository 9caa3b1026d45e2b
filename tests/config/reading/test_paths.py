"""Paths as they are typed, and places that cannot be written to: told before anything starts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from carerl import cli, compare, dashboard, evaluate, fetch, grade, job, rollouts, run, sweep
from carerl.config.check import places
from carerl.config.load import load
from carerl.config.reading.paths import local
from carerl.controller.models import cache
from carerl.errors import ConfigError

TINY = "recipe=care_grpo_tiny"
COMMANDS = {"run": run, "sweep": sweep, "compare": compare, "grade": grade, "dashboard": dashboard, "job": job,
            "evaluate": evaluate, "rollouts": rollouts, "fetch": fetch}  # fmt: skip


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    command, *rest = words
    assert COMMANDS[command].main(rest) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("key", ["run_dir", "runs_dir", "model.path", "task.data_dir", "task.train"])
def test_the_home_directory_is_meant_in_every_setting(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    recipe = "recipe=care_grpo_3b" if key.startswith("task") else TINY
    for text in ("~/x.jsonl", '"~/x.jsonl"'):
        config = load([recipe, f"{key}={text}", "dry_run=true"])
        found = getattr(getattr(config, key.split(".")[0]), key.split(".")[1]) if "." in key else getattr(config, key)
        assert found == "/home/me/x.jsonl"
    assert load(["recipe=care_grpo_3b", "task.benchmarks=[~/x.jsonl]", "dry_run=true"]).task.benchmarks == [
        "/home/me/x.jsonl"
    ]


@pytest.mark.parametrize(
    "words",
    [["run", "resume=~/gone"], ["compare", "~/gone"], ["compare", "~/gone*"], ["rollouts", "~/gone"],
     ["grade", "~/gone", "o.jsonl"], ["dashboard", "project=p", "runs=[~/gone]", "dry_run=true"]],
)  # fmt: skip
def test_and_in_every_argument(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert str(tmp_path / "home" / "gone") in refused(words, capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [(["benchmarks=gsm8k"], "benchmarks=[gsm8k]"), (["benchmarks=gsm8k,math500"], "benchmarks=[gsm8k,math500]"),
     (["benchmarks=[gsm8k]", "out=s3://b/x"], "out = s3://b/x"),
      (["benchmarks=[gsm8k]", "samples=010.0"], "samples=10"),
     (["task.benchmarks=gsm8k"], "task.benchmarks=[gsm8k]"), (["benchmarks=[gsm8k]", "data=~nobodyatall"], "data = ~")],
)  # fmt: skip
def test_an_evaluation_names_its_settings_as_they_were_typed(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text('{"dtype": "float32"}')
    text = refused(["evaluate", f"model={tmp_path}", *words], capsys)
    assert said in text and text.startswith(words[-1].partition("=")[0] + " = ")


def test_a_near_name_of_a_small_model_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for recipe in ("care_grpo_tiny", "care_grpo_3b"):
        for name in ("smollm", "SmolLM2", "smolm2"):
            with pytest.raises(ConfigError) as caught:
                load([f"recipe={recipe}", f"model.path={name}", "dry_run=true"])
            assert "model.path=smollm2" in caught.value.remedy
    (tmp_path / "smollm").mkdir()
    load(["recipe=care_grpo_3b", "model.path=smollm", "dry_run=true"])
    load(["recipe=care_grpo_3b", "model.path=./smollm9", "dry_run=true"])


def test_what_is_written_lies_below_home_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CARERL_CACHE", "~/cache")
    assert sweep.parse([TINY, "out=~/s"])[2].out == str(tmp_path / "home" / "s")
    assert cli.take([TINY, "working_dir=~/w"], job.Options)[0].working_dir == str(tmp_path / "home" / "w")
    assert dashboard.main(["project=p", "dry_run=true", "out=~/d.json"]) == 0
    assert (tmp_path / "home" / "d.json").is_file() and not (tmp_path / "~").exists()
    assert cache.cache_directory() == tmp_path / "home" / "cache" / "models"


@pytest.mark.parametrize(
    "words",
    [["run", TINY, "dry_run=true", "run_dir=ADDRESS"], ["run", TINY, "runs_dir=ADDRESS"], ["run", "resume=ADDRESS"],
     ["run", "recipe=ADDRESS"], ["run", TINY, "model.path=ADDRESS", "dry_run=true"], ["compare", "ADDRESS"],
     ["compare", "x", "out=ADDRESS"], ["sweep", TINY, "seed=1", "out=ADDRESS"], ["grade", "ADDRESS", "o"],
     ["rollouts", "ADDRESS"], ["dashboard", "project=p", "dry_run=true", "out=ADDRESS"], ["evaluate", "model=ADDRESS"],
     ["job", TINY, "run_dir=ADDRESS"], ["job", TINY, "working_dir=ADDRESS"],
     ["run", "recipe=care_grpo_3b", "task.train=ADDRESS.jsonl", "dry_run=true"]],
)  # fmt: skip
@pytest.mark.parametrize("address", ["s3://bucket/run", "file:///tmp/run", "host:/run"])
def test_an_address_is_no_directory(
    words: list[str], address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "it is an address" in refused([word.replace("ADDRESS", address) for word in words], capsys)
    assert not list(tmp_path.iterdir())


def test_the_remedy_for_an_address_can_be_typed() -> None:
    for field, text, remedy in (
        ("run_dir", "file:///tmp/x", "run_dir=/tmp/x"),
        ("model.path", "https://huggingface.co/Qwen/Qwen2.5-7B", "model.path=Qwen/Qwen2.5-7B,"),
        ("model.path", "hf://Qwen/Qwen2.5-7B", "model.path=Qwen/Qwen2.5-7B,"),
    ):
        with pytest.raises(ConfigError) as caught:
            local(field, text)
        assert remedy in caught.value.remedy


@pytest.mark.parametrize("text", ["a:b", "12:30/x", "a~b", "x/~", "s3", "a$", "-x", "ü", "a b"])
def test_any_other_name_is_a_path(text: str) -> None:
    assert local("run_dir", text) == text


def test_a_folder_that_is_named_so_can_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Path(local("run_dir", "./~/x")).expanduser() == tmp_path / "~" / "x"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("~nobodyatall/x", "no user here has this name"),
        ("$HOME/x", "no shell"),
        ("a\nb", "control"),
        ("x/${HOME}", "no shell"),
    ],
)
def test_what_no_path_should_be_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        local("run_dir", text)


@pytest.mark.parametrize(
    ("words", "field"),
    [(["run", TINY, "run_dir=PLACE"], "run_dir"), (["run", TINY, "runs_dir=PLACE"], "runs_dir"),
     (["sweep", TINY, "seed=1", "out=PLACE"], "out"), (["compare", ".", "out=PLACE"], "out"),
     (["dashboard", "project=p", "dry_run=true", "out=PLACE/d.json"], "out"),
     (["grade", "in.jsonl", "PLACE.jsonl"], "OUT.jsonl")],
)  # fmt: skip
@pytest.mark.parametrize("place", ["/proc/no/such", "file/x", "gone_link/x", "long"])
def test_hole_a_place_that_cannot_be_written_to_is_found_before_anything_starts(
    words: list[str],
    field: str,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Ray starts in a second, and the actors in ten; then came a traceback."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "gone_link").symlink_to("nowhere")
    (tmp_path / "in.jsonl").write_text('{"id": "a", "gold": "1", "response": "1"}\n')
    monkeypatch.setattr("carerl.controller.session.cluster", None)  # to be called is to fail
    monkeypatch.setattr("carerl.controller.sweeps.sweep.cluster", None)
    where = "x" * 300 if place == "long" else place
    text = refused([word.replace("PLACE", where) for word in words], capsys)
    assert field in text.splitlines()[0] and "remedy: " in text and "Traceback" not in text
    assert {path.name for path in tmp_path.iterdir()} == {"file", "gone_link", "in.jsonl"}, "nothing is left behind"


@pytest.mark.parametrize("place", ["/proc/c", "file", "s3://b/c"])
def test_hole_a_cache_that_cannot_be_written_to_is_named(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("CARERL_CACHE", place)
    monkeypatch.setattr("carerl.controller.session.cluster", None)
    for words in (["run", TINY], ["run", "recipe=base_bytes"], ["fetch", "base_bytes"]):
        assert refused(words, capsys).startswith("CARERL_CACHE = ")


def test_what_is_in_a_cache_is_taken_where_nobody_can_write(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with cache.building(tmp_path / "model") as partial:
        assert partial is None
    assert [path.name for path in tmp_path.iterdir()] == ["model"], "not even a lock is made"


def test_room_is_what_the_plan_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = load([TINY, f"run_dir={tmp_path / 'r'}"]), load(["recipe=care_grpo_7b", "dry_run=true"])
    assert places.RUN_MIB < places.run_mib(small) < places.RUN_MIB + 20
    weights = 7.6e9 * (12 + 2)  # bytes of one checkpoint: float32 and two moments, and the export in bfloat16
    assert places.run_mib(large) == pytest.approx((large.checkpoint.keep + 1) * weights / 2**20, rel=0.02)
    free = int(places.run_mib(small) * 2**20)
    usage = shutil.disk_usage(tmp_path)
    for left, fits in ((free + 2**20, True), (free - 2**20, False)):
        monkeypatch.setattr(places.shutil, "disk_usage", lambda path, left=left: usage._replace(free=left))
        if fits:
            places.check_run(small)
        else:
            with pytest.raises(ConfigError, match="too little room left"):
                places.check_run(small)


def test_a_run_that_goes_on_needs_no_room_for_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load([TINY, f"run_dir={tmp_path / 'r'}"])
    config.resume = config.run_dir
    (tmp_path / "r" / "checkpoints" / "step_000050").mkdir(parents=True)
    (tmp_path / "r" / "checkpoints" / "step_000050" / "weights").write_bytes(bytes(4 * 2**20))
    usage = shutil.disk_usage(tmp_path)
    left = int((places.run_mib(config) - 3) * 2**20)
    monkeypatch.setattr(places.shutil, "disk_usage", lambda path: usage._replace(free=left))
    places.check_run(config)
    config.resume = ""
    with pytest.raises(ConfigError, match="too little room"):
        places.check_run(config)


MOUNTED = "mount -t tmpfs -o size={size} tmpfs {place} && {more} exec {python} -m carerl.run {words}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "more", "said"), [("300k", "", "0.29 MiB"), ("9m", "mount -o remount,ro {place} &&", "Read-only")]
)
def test_real_file_systems_without_room_and_without_leave(size: str, more: str, said: str, tmp_path: Path) -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("no mount namespace can be made here")
    place = tmp_path / "place"
    place.mkdir()
    words = f"{TINY} steps=1 run_dir={place}/r"
    script = MOUNTED.format(size=size, place=place, more=more.format(place=place), python=sys.executable, words=words)
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=120, check=False, env=os.environ
    )
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr


CLOSED = """
import ctypes, os, sys
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: root is then refused like anybody else
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1], *sys.argv[2:]])
"""
ALL = """
import importlib, sys
for line in sys.argv[1:]:
    command, *words = line.split()
    code = importlib.import_module(f"carerl.{command}").main(words)
    print(code, file=sys.stderr)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
def test_a_folder_that_is_closed_to_this_user_is_no_traceback(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0)
    lines = [
        f"run {TINY} run_dir={closed}/r", f"run {TINY} runs_dir={closed}/r", f"run resume={closed}/r",
        f"run {TINY} run_dir={closed}/r resume=auto", f"run {TINY} model.path={closed}/m",
        f"run recipe={closed}/x.yaml",
        f"sweep {TINY} seed=1 out={closed}/s", f"compare {closed}/r", f"grade {closed}/a.jsonl o.jsonl",
        f"rollouts {closed}/r", f"evaluate model={closed}/m benchmarks=[gsm8k]",
        f"dashboard project=p runs=[{closed}/r]",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", CLOSED, ALL, *lines],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    closed.chmod(0o700)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if line.isdigit()] == ["2"] * len(lines), done.stderr
