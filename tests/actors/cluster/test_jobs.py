"""What a run knows of the job that it runs in. tests/e2e/test_jobs.py submits real ones."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from carerl.actors.cluster import access, jobs
from carerl.actors.cluster.access import enable_token
from carerl.actors.cluster.cluster import ACTOR_ENVIRONMENT
from carerl.cli import take
from carerl.errors import ConfigError
from carerl.job import Options, main


@pytest.fixture(autouse=True)
def own_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test makes of the variables is undone: a Ray that is started afterwards would ask for another mode than
    the one it has read."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def in_job(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """The environment that Ray 2.60 gives a job's driver."""
    told = {"runtime_env": {"env_vars": variables}, "metadata": {"job_submission_id": "x"}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(told))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_what_the_job_sets_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    assert jobs.free_of_job(ACTOR_ENVIRONMENT) == ACTOR_ENVIRONMENT
    in_job(monkeypatch, GOMP_SPINCOUNT="7", OTHER="1")
    kept = jobs.free_of_job(ACTOR_ENVIRONMENT)
    assert set(ACTOR_ENVIRONMENT) - set(kept) == {"GOMP_SPINCOUNT"}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", '{"metadata": {}}')  # a job without a runtime environment
    assert jobs.free_of_job(ACTOR_ENVIRONMENT) == ACTOR_ENVIRONMENT


def test_a_run_is_not_written_into_what_ray_removes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    unpacked = tmp_path / "session" / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    unpacked.mkdir(parents=True)
    monkeypatch.chdir(unpacked)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    jobs.check_storage("runs_dir", "runs")  # no job
    in_job(monkeypatch)
    with pytest.raises(ConfigError, match="removes when the job ends") as caught:
        jobs.check_storage("runs_dir", "runs")
    assert caught.value.field == "runs_dir" and "absolute path" in caught.value.remedy
    jobs.check_storage("runs_dir", str(tmp_path / "shared"))
    monkeypatch.chdir(tmp_path)
    jobs.check_storage("runs_dir", "runs")  # a job without a working directory of its own


def test_a_job_that_a_stop_leaves_no_time_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_JOB_CONFIG_JSON_ENV_VAR", jobs.GRACE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    assert jobs.short_grace() == ""
    in_job(monkeypatch)
    assert "3 s" in jobs.short_grace() and '{"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "300"}}' in jobs.short_grace()
    in_job(monkeypatch, **{jobs.GRACE_VARIABLE: "60"})
    assert jobs.short_grace() == ""


@pytest.mark.parametrize(
    ("variables", "file", "expected"),
    [
        ({}, False, None),
        ({}, True, "token"),
        ({"RAY_AUTH_TOKEN": "x"}, False, "token"),
        ({"RAY_AUTH_MODE": "disabled"}, True, "disabled"),
    ],
)
def test_a_token_that_is_there_is_sent(
    variables: dict[str, str], file: bool, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HOME", str(tmp_path))
    if file:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text("x")
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    enable_token()
    assert os.environ.get("RAY_AUTH_MODE") == expected


def test_a_mode_that_ray_has_read_already_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Ray started by this process would ask for a token that the process itself does not send."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x")
    import ray  # noqa: F401

    enable_token()
    assert "RAY_AUTH_MODE" not in os.environ


class Breaking:
    """A job's server as its client sees it: the output breaks off after each of ``reads`` characters, and then the
    server is gone for ``gone`` questions."""

    def __init__(self, output: str, reads: list[int], gone: int, status: str = "SUCCEEDED") -> None:
        self.output, self.reads, self.gone, self.status = output, reads, gone, status

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        upto = self.reads.pop(0) if self.reads else len(self.output)
        for start in range(0, upto, 3):
            yield self.output[start : min(start + 3, upto)]
        if upto < len(self.output):
            raise aiohttp.ServerDisconnectedError

    def get_job_info(self, job: str) -> Any:
        self.gone -= 1
        if self.gone >= 0:
            raise ConnectionError("refused")
        return SimpleNamespace(status=self.status, driver_exit_code=0, message="")


def test_an_output_that_breaks_off_is_taken_up_where_it_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.0)
    text = "".join(f"step {i}\n" for i in range(20))
    shown: list[str] = []
    ended = jobs.follow(Breaking(text, [10, 47, 11], gone=2), "x", shown.append)
    assert (ended.status, ended.exit_code) == ("SUCCEEDED", 0)
    said = [part for part in shown if "breaks off" in part]
    assert 1 <= len(said) <= 3 and "".join(part for part in shown if part not in said) == text


def test_an_output_that_breaks_again_and_again_is_followed_as_long_as_the_server_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where the output cannot be had at all, and however impatient."""
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.01)
    running = Breaking("abc", [0] * 20, gone=0)
    monkeypatch.setattr(running, "get_job_info", lambda job: SimpleNamespace(
        status="RUNNING" if running.reads else "FAILED", driver_exit_code=3, message=""))  # fmt: skip
    shown: list[str] = []
    assert jobs.follow(running, "x", shown.append, patience=0.0).exit_code == 3
    assert len(shown) == 2 and "breaks off" in shown[0] and shown[1] == "abc", "told once, and the rest is had"
    never = Breaking("abc", [0] * 20, gone=0, status="STOPPED")
    assert jobs.follow(never, "x", shown.append).exit_code == 143 and len(never.reads) == 16


def test_two_outages_with_an_answer_between_them_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by a second at each look; the server is away for one question at a time, 20 times."""
    clock = itertools.count()
    monkeypatch.setattr(jobs, "time", SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda seconds: None))
    server, questions = Breaking("abc", [], gone=0), itertools.count()

    def answer(job: str) -> Any:
        if (number := next(questions)) % 2 == 0:
            raise ConnectionError("away")
        return SimpleNamespace(status="RUNNING" if number < 40 else "SUCCEEDED")

    monkeypatch.setattr(server, "get_job_info", answer)
    assert jobs.follow(server, "x", lambda text: None, patience=3.0).exit_code == 0


def test_why_a_command_never_started_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a job has no output to follow."""
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.0)
    server = Breaking("abc", [0] * 20, gone=0)
    facts = SimpleNamespace(status="FAILED", driver_exit_code=None, message="the environment could not be set up")
    monkeypatch.setattr(server, "get_job_info", lambda job: facts)
    shown: list[str] = []
    assert jobs.follow(server, "x", shown.append).exit_code == 1
    assert sum(facts.message in part for part in shown) == 1


def test_a_connection_that_is_gone_without_a_word_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(jobs, "QUIET_SECONDS", 0.05)
    silent = Breaking("abc", [], gone=0)

    async def nothing_more(job: str) -> AsyncIterator[str]:
        yield "abc"
        await asyncio.Event().wait()

    monkeypatch.setattr(silent, "tail_job_logs", nothing_more)
    shown: list[str] = []
    assert jobs.follow(silent, "x", shown.append).status == "SUCCEEDED" and shown == ["abc"]


def test_the_address_that_was_checked_is_the_one_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray prefers RAY_API_SERVER_ADDRESS and RAY_ADDRESS to the address that its client is given."""
    from ray.dashboard.utils import get_address_for_submission_client

    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.5:6379")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://10.0.0.5:8265")
    with pytest.raises(ConfigError, match="no job server answers"):
        jobs.client("http://127.0.0.1:9")
    assert get_address_for_submission_client("http://127.0.0.1:9") == "http://127.0.0.1:9"


def test_a_server_that_stays_away_says_nothing_about_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "POLL_SECONDS", 0.0)
    with pytest.raises(jobs.JobError, match="may still be running: ray job status x"):
        jobs.follow(Breaking("a", [], gone=10**9), "x", lambda text: None, patience=0.05)


@pytest.mark.parametrize(
    ("address", "mode", "refused"),
    [
        ("http://10.0.0.5:8265", None, True),
        ("http://head:8265", None, True),
        ("http://127.0.0.1.example.com:8265", None, True),
        ("http://head:8265", "disabled", False),
        ("http://head:8265", "token", False),
        ("http://127.0.0.1:8265", None, False),
        ("http://localhost:8265", None, False),
        ("http://[::1]:8265", None, False),
    ],
)
def test_commands_go_to_another_machine_with_a_token_only(
    address: str, mode: str | None, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mode is not None:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    if refused:
        with pytest.raises(ConfigError, match="no token to send") as caught:
            jobs.client(address)
        assert caught.value.value == address and "RAY_AUTH_MODE=disabled" in caught.value.remedy
    else:
        access.check_open("address", address, jobs.place_of(address).host)


@pytest.mark.parametrize("words", ([], ["rehearse=true"]))
def test_a_sweep_is_submitted_as_one_job(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, Any] = {}
    monkeypatch.setattr(jobs, "client", lambda address, patience: SimpleNamespace(
        submit_job=lambda **job: sent.update(job) or "a"))  # fmt: skip
    asked = ["sweep=paper_3b", "seed=100,101", "out=/shared/sweeps/paper", *words]
    assert main([*asked, "wait=false", "python=py"]) == 0
    assert sent["entrypoint"].split() == ["py", "-m", "carerl.sweep", *asked]
    assert sent["metadata"] == {"sweep": "paper_3b", "out": "/shared/sweeps/paper"}


def test_the_words_of_a_job_and_those_of_its_run_are_told_apart() -> None:
    given = ["recipe=care_grpo_tiny", "grace=20", "steps=3", "wait=false", "address=http://h:1", "id=a"]
    found, words = take(given, Options)
    assert words == ["recipe=care_grpo_tiny", "steps=3"]
    assert (found.grace, found.wait, found.address, found.id, found.python) == (20, False, "http://h:1", "a", "python")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["recipe=care_grpo_tiny", "wait=maybe"], "true or false"),
        (["recipe=care_grpo_tiny", "grace=long"], "number of seconds"),
        (["recipe=care_grpo_tinny"], "did you mean"),
        (["recipe=care_grpo_tiny", "seed=-1"], "at least 0"),
        (["recipe=care_grpo_tiny", "address=http://127.0.0.1:9"], "no job server answers"),
        (["sweep=paper_3bb"], "did you mean paper_3b?"),
        (["sweep=algorithms_tiny", "seed=1,-1"], "at least 0"),
        (["sweep=algorithms_tiny", "run_dir=/x"], "directory of its own"),
        (["sweep=algorithms_tiny", "out=s3://bucket/x"], "out = s3://bucket/x is refused"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert said in capsys.readouterr().err
