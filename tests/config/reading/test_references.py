"""``${other.key}``, ``${oc.env:NAME}``, and what of the environment never gets into a run's settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from carerl import run
from carerl.config.load import dump, load, read
from carerl.config.reading import compose, references
from carerl.config.reading.scalars import read_yaml_text
from carerl.errors import ConfigError

TINY = "recipe=care_grpo_tiny"
TOKEN = "hf_" + "abcdefgh" * 4


@pytest.mark.parametrize(
    ("word", "path", "expected"),
    [
        ("run_dir=r-${seed}", "run_dir", "r-100"),
        ("checkpoint.every=${evaluation.every}", "checkpoint.every", 50),
        ("description=${recipe}-${task.name}", "description", "care_grpo_tiny-tiny"),
        ("description=${algorithm.epochs}", "description", "1"),
        ("runs_dir=${tracking.wandb_project}", "runs_dir", "carerl"),
        ("regularizer.beta=${seed}", "regularizer.beta", 100.0),
        ("description=\\${x}", "description", "${x}"),
    ],
)
def test_a_reference_finds_every_setting_that_a_run_has(word: str, path: str, expected: object, tmp_path: Path) -> None:
    config = load([TINY, word, "dry_run=true"])
    owner: object = config
    for part in path.split("."):
        owner = getattr(owner, part)
    assert owner == expected and type(owner) is type(expected)
    (tmp_path / "config.yaml").write_text(dump(config))
    assert read(tmp_path / "config.yaml") == config


def test_a_reference_gives_text_as_it_was_typed() -> None:
    assert load([TINY, "description=v${tracking.wandb_project}", "tracking.wandb_project=1.10"]).description == "v1.10"


@pytest.mark.parametrize(
    ("words", "field", "said"),
    [
        (["seed=${sed}"], "seed", "${seed}"),
        (["seed=${lr}"], "seed", "${learner.optimizer.lr}"),
        (["seed=${learner.optimizer.lr}"], "seed", "whole number"),
        (["seed=${learner}"], "seed", "whole number"),
        (["seed=${steps}", "steps=${seed}"], "seed", "resolved"),
        (["run_dir=a${"], "run_dir", "\\${"),
        (["run_dir=${HOME}/x"], "run_dir", "${oc.env:HOME}"),
        (["seed=${env:SEED}"], "seed", "${oc.env:NAME}"),
        (["learner.optimizer.betas=[${seed},0.9]"], "learner.optimizer.betas", '["${seed}",0.9]'),
    ],
)
def test_a_reference_that_leads_nowhere_says_what_was_meant(words: list[str], field: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load([TINY, *words])
    assert caught.value.field in (field, "steps") and said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "word", "path", "expected"),
    [("5", "seed=${oc.env:X}", "seed", 5), ("007", "seed=${oc.env:X}", "seed", 7),
     ("0042", "description=${oc.env:X}", "description", "0042"), ("5e-1", "steps=${oc.env:N,9}", "steps", 9),
     ("/data", "runs_dir=${oc.env:X}/r", "runs_dir", "/data/r"),
     ("null", "description=${oc.env:X}", "description", "null")],
)  # fmt: skip
def test_a_variable_is_a_number_where_the_setting_is_one(
    text: str, word: str, path: str, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X", text)
    assert getattr(load([TINY, word, "dry_run=true"]), path) == expected


@pytest.mark.parametrize(("text", "said"), [("abc", "'abc'"), ("1.5", "'1.5'"), ("0x10", "'0x10'"), ("", "''")])
def test_a_variable_that_is_no_number_is_told_as_the_text_it_is(
    text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X", text)
    with pytest.raises(ConfigError) as caught:
        load([TINY, "seed=${oc.env:X}"])
    assert caught.value.field == "seed" and f"${{oc.env:X}} gives the text {said}" in caught.value.reason


@pytest.mark.parametrize(
    ("name", "text"),
    [("HF_TOKEN", TOKEN), ("MY_PASS", "hunter22"), ("PGPASSWORD", "x"), ("APP_CREDENTIALS", "x"),
    ("DATABASE", "postgres://u:pw@h/d"),
     ("HARMLESS", TOKEN), ("API_AUTH", "x")],
)  # fmt: skip
@pytest.mark.parametrize("word", ["description=${oc.env:NAME}", "description=x-${oc.${tracking.wandb_project}:NAME}"])
def test_hole_a_secret_of_the_environment_never_becomes_a_setting(
    name: str, text: str, word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would be written into config.yaml, and sent wherever that goes."""
    monkeypatch.setenv(name, text)
    assert run.main([TINY, "dry_run=true", "tracking.wandb_project=env", word.replace("NAME", name)]) == 2
    shown = capsys.readouterr()
    assert "secret" in shown.err and (len(text) < 8 or text not in shown.out + shown.err)


def test_hole_a_stored_run_may_not_ask_for_any_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLOUR", "green")
    stored = dump(replace(load([TINY]), description="COLOUR")).replace(
        "description: COLOUR", "description: ${oc.env:COLOUR}"
    )
    (tmp_path / "config.yaml").write_text(stored)
    for words in ([f"resume={tmp_path}"], [TINY, f"run_dir={tmp_path}", "resume=auto"]):
        if "resume=auto" in words:
            (tmp_path / "checkpoints" / "latest").mkdir(parents=True)
        with pytest.raises(ConfigError, match="COLOUR"):
            load(words)
    assert "green" not in stored


def test_omegaconf_keeps_its_own_reading_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    load([TINY, "description=${oc.env:NONE,x}"])
    assert OmegaConf.create({"a": "${oc.env:HF_TOKEN}"}).a == TOKEN


def test_hole_a_message_holds_no_secret(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SOME_API_KEY", "correct-horse-battery")
    for word in ("seed=correct-horse-battery", f"seed={TOKEN}", "seed=s3://me:hunter2@b/x", "api_key=hunter2hunter2"):
        assert run.main([TINY, word]) == 2
    shown = capsys.readouterr().err
    assert not any(secret in shown for secret in ("correct-horse", TOKEN, "hunter2")) and shown.count("[redacted]") >= 4


@pytest.mark.parametrize("name", ["4242", "0042", "1e5", "no", "20260101_1200", "1:30", "r-${seed}", "~/r"])
def test_one_command_goes_on_in_a_directory_of_any_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    words = [TINY, f"run_dir={name}", "resume=auto"]
    fresh = load(words)
    place = tmp_path / name.replace("${seed}", "100").replace("~", "home")
    assert fresh.resume == "auto" and Path(fresh.run_dir).absolute() == place
    (place / "checkpoints" / "step_000050").mkdir(parents=True)
    (place / "checkpoints" / "latest").symlink_to("step_000050")
    (place / "config.yaml").write_text(dump(replace(fresh, resume="")))
    again = load(words)
    assert Path(again.resume).absolute() == Path(again.run_dir).absolute() == place


def test_a_recipe_may_ask_to_go_on_but_not_with_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    recipe = tmp_path / "recipes" / "r.yaml"
    recipe.write_text("extends: [care_grpo_tiny]\nrun_dir: 0042\nresume: auto\n")
    fresh = load(["recipe=r"])
    assert (fresh.run_dir, fresh.resume) == ("0042", "auto")
    (tmp_path / "0042" / "checkpoints" / "latest").mkdir(parents=True)
    (tmp_path / "0042" / "config.yaml").write_text(dump(replace(fresh, resume="")))
    assert load(["recipe=r"]).resume == "0042", "and not set aside as a run without a checkpoint"
    recipe.write_text("extends: [care_grpo_tiny]\nresume: 0042\n")
    with pytest.raises(ConfigError, match="take it out"):
        load(["recipe=r"])


@pytest.mark.parametrize("name", compose.recipe_names())
def test_a_tree_without_references_is_what_omegaconf_makes_of_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The short way, which most runs take, gives the settings of the long one; and neither changes what is kept of a
    file that was read."""
    first, again = load([f"recipe={name}"]), load([f"recipe={name}"])
    monkeypatch.setattr(references, "_plain", lambda tree: False)
    assert load([f"recipe={name}"]) == first == again


def test_what_a_caller_does_to_a_tree_is_its_own_matter() -> None:
    text = "a: {b: [1, 2]}"
    for tree in (read_yaml_text(text), references.resolve(read_yaml_text(text))):
        tree["a"]["b"].append(3)
    assert read_yaml_text(text) == {"a": {"b": ["1", "2"]}}
    kept = {"tracking": {"tags": ["x"]}}
    references.resolve(kept)["tracking"]["tags"].append("y")
    assert kept == {"tracking": {"tags": ["x"]}}
