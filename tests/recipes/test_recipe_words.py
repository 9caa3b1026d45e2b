"""Recipes by any name that a file can have, and by path."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from carerl import rehearse
from carerl.config.load import base_config, dump, load
from carerl.config.reading import compose
from carerl.errors import ConfigError

MINE = "extends: [care_grpo_tiny]\nsteps: 77\n"


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def write(file: str, text: str = MINE) -> None:
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text(text)


@pytest.mark.parametrize(
    "name",
    [
        "my-recipe",
        "my.recipe",
        "naïve",
        "my recipe",
        "-x",
        "日本語",
        "a,b",
        "a+b",
        "v1.0",
        "a$b",
        "A",
        "(x)",
        "x[1]",
        "42",
    ],
)
def test_a_recipe_that_is_listed_runs(name: str) -> None:
    write(f"recipes/{name}.yaml")
    assert name in compose.recipe_names()
    config = load([f"recipe={name}", "dry_run=true"])
    assert (config.recipe, config.steps) == (name, 77)


@pytest.mark.parametrize(("typed", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_an_accent_is_found_however_it_is_written(typed: str, stored: str) -> None:
    write(f"recipes/{unicodedata.normalize(stored, 'naïve')}.yaml")  # type: ignore[arg-type]
    assert load([f"recipe={unicodedata.normalize(typed, 'naïve')}", "dry_run=true"]).steps == 77  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("file", "typed", "name"),
    [
        ("recipes/mine.yaml", "recipes/mine.yaml", "mine"), ("recipes/mine.yaml", "./recipes/mine.yaml", "mine"),
        ("recipes/mine.yaml", "mine.yaml", "mine"), ("recipes/mine.yaml", "recipes/mine", "mine"),
        ("elsewhere/my.v2.yaml", "elsewhere/my.v2.yaml", "my.v2"), ("x.yml", "x.yml", "x"),
        ("recipes/x.yml", "x.yml", "x"), ("home/x.yaml", "~/x.yaml", "x"), ("a b/c d.yaml", "a b/c d.yaml", "c d"),
    ],
)  # fmt: skip
def test_a_recipe_by_its_path(file: str, typed: str, name: str, tmp_path: Path) -> None:
    write(file)
    for word in (typed, str(tmp_path / file)):
        config = load([f"recipe={word}", "dry_run=true"])
        assert (config.recipe, config.steps) == (name, 77)


def test_a_run_of_a_recipe_by_its_path_goes_on_by_the_same_words(tmp_path: Path) -> None:
    write("elsewhere/mine.yaml")
    words = ["recipe=elsewhere/mine.yaml", "run_dir=r", "resume=auto"]
    Path("r/checkpoints/latest").mkdir(parents=True)
    write("r/config.yaml", dump(load(["recipe=elsewhere/mine.yaml"])))
    assert load(words).resume == "r" and load(["resume=r"]).recipe == "mine"


@pytest.mark.parametrize(
    ("file", "typed", "reason", "remedy"),
    [
        ("recipes/x.yml", "x", "stands for a .yaml file", "recipes/x.yml"),
        ("recipes/algorithm/x.yaml", "recipes/algorithm/x.yaml", "fragment", ""),
        ("recipes/x.yaml", "gone/x.yaml", "no recipe file", "x?"),
        ("elsewhere/x.yaml", "elsewhere", "directory", ""),
        ("elsewhere/care_grpo_tiny.yaml", "elsewhere/care_grpo_tiny.yaml", "another recipe of this name", "rename"),
        ("x.json", "x.json", "no recipe file", "./recipes"),
        ("x", "zzz_qqq", "no recipe file", "given by its path, or put into ./recipes"),
        ("x", "..", "directory", ""), ("x", "https://h/x.yaml", "address", ""),
    ],
)  # fmt: skip
def test_what_is_no_recipe_says_why_and_where_one_belongs(file: str, typed: str, reason: str, remedy: str) -> None:
    write(file)
    with pytest.raises(ConfigError) as caught:
        load([f"recipe={typed}"])
    assert caught.value.field == "recipe" and reason in caught.value.reason and remedy in caught.value.remedy
    assert f"did you mean {typed}?" not in caught.value.remedy, "the very word that was given"


def test_parts_are_given_by_name() -> None:
    write("mine/b.yaml")
    with pytest.raises(ConfigError, match=r"write model\.base_recipe=b"):
        base_config(load(["recipe=care_grpo_tiny", "model.base_recipe=mine/b.yaml"]))
    write("recipes/y.yaml", "extends: [mine/b.yaml]\n")
    with pytest.raises(ConfigError, match=r"put it into \./recipes"):
        load(["recipe=y"])


def test_a_rehearsal_of_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert rehearse.main(["recipe=care_grpo_tinny"]) == 2
    assert "care_grpo_tiny" in capsys.readouterr().err
