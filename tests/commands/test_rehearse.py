"""``carerl rehearse``: all recipes in turn, and what the table and the exit code say of them."""

from __future__ import annotations

import os
from typing import Any

import pytest

from carerl import rehearse
from carerl.rehearse import Rehearsed, rehearsal, table, trained_recipes


def test_all_recipes_that_train_are_rehearsed_and_no_other() -> None:
    names = trained_recipes()
    assert {f"{r}_{a}_{s}" for r in ("none", "rkl", "care") for a in ("grpo", "dapo", "gspo") for s in ("3b", "7b")} < {
        *names
    }
    assert {"care_grpo_tiny", "sft_decision_tiny", "sft_decision_8b"} < {*names}
    assert not {"base_tiny", "base_bytes"} & {*names}


def test_one_that_fails_keeps_no_other_from_its_turn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, list[str]]] = []

    def stand_in(recipe: str, words: list[str]) -> Rehearsed:
        asked.append((recipe, words))
        return Rehearsed(recipe, "FAILED" if recipe == "b" else "passed", 90.0, 3.25, 7)

    monkeypatch.setattr(rehearse, "rehearsal", stand_in)
    monkeypatch.setattr(rehearse, "refuse_unknown", lambda recipes, words: None)
    assert rehearse.main(["recipe=a,b,c", "model.path=DIR"]) == 1
    assert asked == [("a", ["model.path=DIR"]), ("b", ["model.path=DIR"]), ("c", ["model.path=DIR"])]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["a", "passed", "1.5", "3.2", "7"], ["b", "FAILED", "1.5", "3.2", "7"], ["c", "passed", "1.5", "3.2", "7"],
    ]  # fmt: skip
    assert rehearse.main(["recipe=a,c"]) == 0


def _killed(asked: list[str]) -> Any:
    os._exit(9)  # as the kernel does to a process that takes too much memory


def test_a_process_that_is_killed_is_a_failure() -> None:
    row = rehearsal("care_grpo_tiny", [], _killed)
    assert row.recipe == "care_grpo_tiny" and row.verdict.startswith("FAILED")
    assert "care_grpo_tiny" in table([row])[1]


def _full(asked: list[str]) -> Any:
    raise OSError(28, "No space left on device")


def test_an_error_of_the_disk_is_a_failure(capfd: pytest.CaptureFixture[str]) -> None:
    assert rehearsal("care_grpo_tiny", [], _full).verdict == "FAILED (OSError)"
    assert "No space left" in capfd.readouterr().err


def test_a_word_that_no_recipe_takes_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert rehearse.main(["recipe=care_grpo_tiny,care_grpo_3b", "task.dat_dir=D"]) == 2
    assert "task.dat_dir" in capsys.readouterr().err
    rehearse.refuse_unknown(["care_grpo_tiny", "care_grpo_3b"], ["task.data_dir=D"])


def test_what_is_refused_says_which_setting(capfd: pytest.CaptureFixture[str]) -> None:
    row = rehearsal("care_grpo_tiny", ["steps=none"])
    assert row.verdict == "refused (steps)"


def test_words_for_other_tasks_are_left_out() -> None:
    tiny = rehearse._known(["recipe=care_grpo_tiny", "rehearse=true", "model.path=DIR", "task.data_dir=D", "seed=7"])
    assert tiny == ["recipe=care_grpo_tiny", "rehearse=true", "seed=7"]
    text = ["recipe=care_grpo_3b", "rehearse=true", "model.path=DIR", "task.data_dir=D"]
    assert rehearse._known(text) == text
