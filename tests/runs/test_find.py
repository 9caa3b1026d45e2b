"""Finding runs, and which settings make two runs one method."""

from __future__ import annotations

from pathlib import Path

import pytest

from carerl.runs.find import find_runs, read_run
from tests.runs.synthetic_runs import config, make_run

FINAL = {"eval/accuracy": 0.5}


def test_a_run_a_pattern_and_a_sweep_lead_to_the_same_runs_once(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    runs = [make_run(sweep / f"cell{seed % 2}", config("care", seed), FINAL) for seed in (1, 2, 3)]
    (runs[0] / "checkpoints" / "step_000010").mkdir(parents=True)
    (runs[0] / "checkpoints" / "step_000010" / "config.yaml").write_text("not: a run\n")
    assert sorted(find_runs([str(sweep)])) == sorted(runs)
    assert find_runs([str(runs[2]), str(sweep / "*" / "care-s*"), str(tmp_path)])[0] == runs[2]
    assert len(find_runs([str(runs[2]), str(sweep / "*" / "care-s*"), str(tmp_path)])) == 3


def test_what_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty: no run found there"):
        find_runs([str(tmp_path / "empty")])
    with pytest.raises(FileNotFoundError, match=r"none_\*: no such file"):
        find_runs([str(tmp_path / "none_*")])


def test_seed_places_and_watching_make_no_difference_but_settings_do(tmp_path: Path) -> None:
    first = config("care", 1, "srkl", alpha=0.8)
    second = config("care", 2, "srkl", alpha=0.8)
    second["tracking"]["wandb"] = "offline"
    second["learner"]["threads"] = 4
    second["cluster"] = {"address": "ray://x"}
    third = config("care", 1, "srkl", alpha=0.9)
    fourth = config("care", 1, "srkl", alpha=0.8)
    fourth["evaluation"]["seed"] = 99  # other questions are another measurement
    keys = []
    for i, settings in enumerate((first, second, third, fourth)):
        keys.append(read_run(make_run(tmp_path / str(i), settings, FINAL)).group_key)
    assert keys[0] == keys[1]
    assert len({keys[0], keys[2], keys[3]}) == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda run: (run / "summary.json").unlink(), "no summary.json"),
        (lambda run: (run / "summary.json").write_text('{"status": "compl'), "no summary.json"),
        (lambda run: (run / "summary.json").write_text('{"status": "interrupted"}'), "status interrupted"),
        (lambda run: (run / "summary.json").write_text('{"status": "completed"}'), "no final evaluation"),
        (lambda run: (run / "summary.json").write_text('{"status": "completed", "final": [1]}'), "no final evaluation"),
        (
            lambda run: (run / "summary.json").write_text('{"status": "completed", "final": {"eval/accuracy": "x"}}'),
            "no final evaluation",
        ),
        (lambda run: (run / "config.yaml").unlink(), "no config.yaml"),
        (lambda run: (run / "config.yaml").write_text("a: [1"), "config.yaml cannot be read"),
    ],
)
def test_an_unfinished_run_says_why(tmp_path: Path, change, reason: str) -> None:  # type: ignore[no-untyped-def]
    run = make_run(tmp_path, config("care", 1), FINAL)
    assert read_run(run).unfinished == ""
    change(run)
    assert reason in read_run(run).unfinished
