"""A run that goes on under another schedule says so, with both rates. What resuming itself does: test_going_on.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from carerl.config.load import dump, load
from carerl.config.schema import LearnerConfig, OptimizerConfig, ScheduleConfig
from carerl.controller import launch as launching
from carerl.controller import session
from carerl.controller.launch import _steps_before
from carerl.controller.schedule import changed_schedule
from carerl.errors import ConfigError


def learner(name: str = "linear", warmup: int = 0) -> LearnerConfig:
    return LearnerConfig(optimizer=OptimizerConfig(lr=1e-3), schedule=ScheduleConfig(name, warmup, 0.05))


@pytest.mark.parametrize(
    ("done", "before", "total", "config", "said"),
    [
        # .05 of the peak at the end; after 3 of 4 steps .05 + .95 / 4
        (2, 2, 4, learner(), ["now covers 4 steps", "covered 2 before", "from 5e-05 in step 2 to 0.00029 in step 3"]),
        (1, 2, 4, learner(), ["from 0.00053 in step 1 to 0.00053 in step 2, where it would have been 5e-05"]),
        (2, 8, 4, learner(), ["from 0.00076 in step 2 to 0.00029 in step 3, where it would have been 0.00064"]),
        (10, 10, 20, learner("cosine"), ["from 5e-05 in step 10 to 0.00045 in step 11"]),
        (2, 20, 30, learner(warmup=5), ["from 0.001 in step 5 to 0.00096 in step 6, where it would have been 0.00094"]),
    ],
)  # fmt: skip
def test_both_rates_are_told(done: int, before: int, total: int, config: LearnerConfig, said: list[str]) -> None:
    text = changed_schedule(done, before, total, config)
    assert all(part in text for part in said), text


@pytest.mark.parametrize(
    ("done", "before", "total", "config"),
    [(2, 4, 4, learner()), (2, 2, 4, learner("constant")), (2, 2, 4, learner("constant", 3)), (4, 8, 4, learner()),
     (2, 20, 5, learner(warmup=5))],
)  # fmt: skip
def test_the_same_rates_need_no_word(done: int, before: int, total: int, config: LearnerConfig) -> None:
    assert changed_schedule(done, before, total, config) == ""


def test_what_a_run_was_asked_for_before_is_read_before_anything_starts(tmp_path: Path) -> None:
    config = load(["recipe=care_grpo_tiny", "steps=50"])
    (tmp_path / "checkpoints" / "step_000050").mkdir(parents=True)
    (tmp_path / "checkpoints" / "latest").symlink_to("step_000050")
    (tmp_path / "config.yaml").write_text(dump(config))
    assert _steps_before(config) is None
    assert _steps_before(load([f"resume={tmp_path}", "steps=80"])) == (50, 50)
    with pytest.raises(ConfigError, match="the run is at step 50"):
        _steps_before(replace(load([f"resume={tmp_path}"]), steps=40))


class Started(Exception):
    """Ray would have been started here."""


@pytest.mark.parametrize("display", ["plain", "quiet"])
def test_the_notice_comes_before_anything_starts(
    display: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def started(*_: object) -> None:
        raise Started

    monkeypatch.setenv("CARERL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(session, "cluster", started)
    run = tmp_path / "run"
    (run / "checkpoints" / "step_000002").mkdir(parents=True)
    (run / "checkpoints" / "latest").symlink_to("step_000002")
    (run / "config.yaml").write_text(
        dump(load(["recipe=care_grpo_tiny", "steps=2", "learner.schedule.warmup_steps=0"]))
    )
    for steps, told in ((4, True), (2, False)):
        with pytest.raises(Started):
            launching.launch(load([f"resume={run}", f"steps={steps}", f"tracking.display={display}"]))
        shown = capsys.readouterr()
        said = shown.err if display == "quiet" else shown.out
        assert ("it goes from 5e-05 in step 2 to 0.00029 in step 3" in said) == told
