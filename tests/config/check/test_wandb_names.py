"""W&B names: refused here is what the installed package refuses, and nothing that it takes."""

from __future__ import annotations

import pytest

from carerl import dashboard
from carerl.config.check.wandb_names import entity_errors, project_errors
from carerl.config.load import load
from carerl.errors import ConfigError

TINY = "recipe=care_grpo_tiny"
TAKEN = ["carerl", "my project", "a" * 128, "ünï", "care_rl-2.0", "1.10", "no", "a,b", "(x)", "a&b"]
REFUSED = ["team/project", "a/b/c", "a\\b", "what?", "a%b", "x:y", "#1", "a" * 129, "/x", "x/", "http://h/p"]


@pytest.mark.parametrize("name", TAKEN + REFUSED)
def test_a_project_is_refused_where_the_package_refuses_it(name: str) -> None:
    wandb = pytest.importorskip("wandb")
    try:
        wandb.Settings(project=name)
        takes = True
    except Exception:
        takes = False
    assert takes == (name in TAKEN) == (not list(project_errors("project", name)))


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_project_has_a_remedy_that_is_taken(name: str) -> None:
    (error,) = project_errors("tracking.wandb_project", name)
    words = [word.rstrip(",") for word in error.remedy.split() if "=" in word]
    assert words and error.remedy.startswith("write ")
    config = load([TINY, *words, "dry_run=true"])
    assert not set(config.tracking.wandb_project) & set("/\\#?%:")


def test_a_project_with_its_team_is_told_apart() -> None:
    with pytest.raises(ConfigError) as caught:
        load([TINY, "tracking.wandb_project=team/project"])
    assert caught.value.remedy == "write tracking.wandb_entity=team tracking.wandb_project=project"


@pytest.mark.parametrize("name", ["", "   ", " carerl", "a\tb"])
def test_a_name_that_nobody_can_see_is_none(name: str) -> None:
    assert list(project_errors("project", name))


@pytest.mark.parametrize(
    ("name", "taken"), [("", True), ("my-team", True), ("Me_2.0", True), ("a/b", False), ("my team", False)]
)
def test_an_entity(name: str, taken: bool) -> None:
    assert (not list(entity_errors("entity", name))) == taken


def test_where_wandb_is_off_it_has_no_say() -> None:
    assert load([TINY, "tracking.wandb=off", "tracking.wandb_project=a/b"]).tracking.wandb_project == "a/b"


@pytest.mark.parametrize("word", ["project=team/project", "project=a?b", "entity=a/b"])
def test_the_dashboard_refuses_the_same(
    word: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(str(tmp_path))
    assert dashboard.main(["project=p", "dry_run=true", word]) == 2
    assert word.split("=")[0] in capsys.readouterr().err
