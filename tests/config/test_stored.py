"""What a directory's config.yaml may decide when it is read or gone on with: it may be a stranger's."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from carerl.config import stored
from carerl.config.evaluate import evaluation_config
from carerl.config.load import base_config, dump, load, read
from carerl.config.reading.typed import plain
from carerl.config.schema import RunConfig
from carerl.config.sweep import check_stored
from carerl.errors import ConfigError
from tests.controller.test_going_on import model

TINY = "recipe=care_grpo_tiny"
PLUGIN = "planted_by_a_stranger"


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module on the path that counts how often it is imported."""
    place = tmp_path / "modules"
    place.mkdir()
    (place / f"{PLUGIN}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write('x')\n")
    monkeypatch.syspath_prepend(str(place))
    yield lambda: (tmp_path / "ran").exists()
    sys.modules.pop(PLUGIN, None)


@pytest.fixture
def a_run(tmp_path: Path) -> Callable[..., Path]:
    """Makes a run's directory whose config.yaml says what it should not."""

    def make(**wrong: Any) -> Path:
        run = tmp_path / "run"
        model(run / "checkpoints" / "step_000050" / "model")
        (run / "checkpoints" / "latest").symlink_to("step_000050")
        settings = plain(load([TINY, "steps=50"]))
        for key, value in wrong.items():
            section, _, name = key.partition("__")
            if name:
                settings[section][name] = value
            else:
                settings[section] = value
        (run / "config.yaml").write_text(yaml.safe_dump(settings))
        return run

    return make


WRONG = {
    "plugins": ([PLUGIN], f"plugins=[{PLUGIN}]"),
    "cluster.address": ("ray://evil.example:10001", "cluster.address=ray://evil.example:10001"),
    "model.trust_remote_code": (True, "model.trust_remote_code=true"),
    "tracking.wandb": ("online", "tracking.wandb=online"),
}


def test_every_setting_has_been_decided_on() -> None:
    """A new section of the settings is neither taken over nor refused until somebody says which."""
    decided = {*stored.TAKEN_OVER, *stored.OWN_PLACE, "plugins"}
    assert decided == {field.name for field in fields(RunConfig)}
    assert set(WRONG) | {"tracking.wandb_entity"} == set(stored.NAMED_AGAIN)


@pytest.mark.parametrize("key", WRONG)
def test_going_on_takes_it_only_where_the_command_names_it(a_run: Any, plugin: Any, key: str) -> None:
    value, word = WRONG[key]
    run = a_run(**{key.replace(".", "__"): value})
    for words in ([f"resume={run}"], [TINY, f"run_dir={run}", "resume=auto"]):
        with pytest.raises(ConfigError) as caught:
            load(words)
        assert (caught.value.field, caught.value.value) == (key, value)
        assert caught.value.remedy.endswith(word) and str(run / "config.yaml") in caught.value.reason
        assert not plugin()
    config = load([f"resume={run}", word])
    assert stored._value(plain(config), key) == value and plugin() == (key == "plugins")
    assert stored.words_to_name(plain(config)) == [word]


def test_all_that_is_refused_is_told_at_once(a_run: Any, plugin: Any) -> None:
    run = a_run(**{key.replace(".", "__"): value for key, (value, _) in WRONG.items()}, tracking__wandb_entity="them")
    with pytest.raises(ConfigError) as caught:
        load([f"resume={run}"])
    refused = [caught.value, *caught.value.others]
    assert {error.field for error in refused} == set(stored.NAMED_AGAIN) and not plugin()
    load([f"resume={run}", *stored.words_to_name(plain(read(run / "config.yaml")))])


def test_a_recipe_names_it_too(a_run: Any, plugin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text(f"extends: [care_grpo_tiny]\nplugins: [{PLUGIN}]\n")
    run = a_run(recipe="mine", plugins=[PLUGIN])
    assert load(["recipe=mine", f"run_dir={run}", "resume=auto"]).plugins == [PLUGIN] and plugin()


@pytest.mark.parametrize("where", ["recipe", "word"])
def test_it_may_be_named_by_a_reference(
    where: str, a_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a cluster whose head has another address each time; the stored file has the address itself."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEAD", "10.0.0.7:6379")
    words = []
    if where == "recipe":
        (tmp_path / "recipes").mkdir()
        (tmp_path / "recipes" / "mine.yaml").write_text(
            "extends: [care_grpo_tiny]\ncluster: {address: '${oc.env:HEAD}'}\n"
        )
        run, words = a_run(recipe="mine", cluster__address="10.0.0.7:6379"), ["recipe=mine"]
    else:
        run, words = a_run(cluster__address="10.0.0.7:6379"), ["cluster.address=${oc.env:HEAD}"]
    assert load([f"resume={run}", *words]).cluster.address == "10.0.0.7:6379"
    monkeypatch.setenv("HEAD", "10.0.0.8:6379")
    assert load([f"resume={run}", "cluster.address=${oc.env:HEAD}"]).cluster.address == "10.0.0.8:6379"


def test_the_command_to_go_on_is_one_for_a_shell(a_run: Any) -> None:
    run = a_run(cluster__address="10.0.0.7:6379", plugins=[PLUGIN])
    words = shlex.split(stored.command_to_go_on("a run", yaml.safe_load((run / "config.yaml").read_text())))
    assert words == [
        "python", "-m", "carerl.run", "resume=a run", f"plugins=[{PLUGIN}]", "cluster.address=10.0.0.7:6379"
    ]  # fmt: skip


def test_what_no_file_can_turn_elsewhere_is_taken_over(a_run: Any) -> None:
    run = a_run(cluster__address="auto", tracking__wandb="offline", tracking__wandb_entity="my-team")
    assert load([f"resume={run}"]).cluster.address == "auto"


@pytest.mark.parametrize("inside", ["", "checkpoints/latest", "checkpoints/step_000050/model"])
def test_evaluating_a_directory_imports_and_joins_nothing(a_run: Any, plugin: Any, inside: str) -> None:
    run = a_run(plugins=[PLUGIN], cluster__address="ray://evil.example:10001", model__trust_remote_code=True)
    config = evaluation_config([f"model={run / inside}", "engine=hf"])
    assert not plugin()
    assert (config.plugins, config.cluster.address, config.model.trust_remote_code) == ([], "", False)
    assert config.task.name == "tiny" and config.seed == 100, "what was asked in its loop is kept"
    named = evaluation_config([f"model={run / inside}", "engine=hf", f"plugins=[{PLUGIN}]", "cluster.address=auto"])
    assert plugin() and named.plugins == [PLUGIN] and named.cluster.address == "auto"


def test_a_base_models_settings_import_nothing_either(a_run: Any, plugin: Any, tmp_path: Path) -> None:
    base = base_config(load([TINY]))
    base.plugins = [PLUGIN]
    base.cluster.address = "ray://evil.example:10001"
    (model(tmp_path / "base") / "carerl_base.yaml").write_text(dump(base))
    config = evaluation_config([f"model={tmp_path / 'base'}", "engine=hf"])
    assert not plugin() and config.cluster.address == ""


def test_an_evaluation_that_is_gone_on_with_imports_nothing(a_run: Any, plugin: Any, tmp_path: Path) -> None:
    run, out = a_run(), tmp_path / "out"
    out.mkdir()
    begun = evaluation_config([f"model={run}", "engine=hf", f"out={out}"])
    begun.plugins = [PLUGIN]
    (out / "config.yaml").write_text(dump(begun))
    with pytest.raises(ConfigError) as caught:
        evaluation_config([f"model={run}", "engine=hf", f"out={out}"])
    assert caught.value.field == "plugins" and not plugin()


def test_a_sweep_that_looks_at_its_cells_imports_nothing(a_run: Any, plugin: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        check_stored(a_run(plugins=[PLUGIN]), load([TINY, "steps=50"]), "complete")
    assert caught.value.field == "plugins" and not plugin()


def test_names_that_only_a_plugin_knows_are_told_with_the_remedy(a_run: Any, plugin: Any) -> None:
    run = a_run(plugins=[PLUGIN], reward={"name": "theirs"})
    with pytest.raises(ConfigError) as caught:
        evaluation_config([f"model={run}", "engine=hf"])
    assert caught.value.field == "reward.name" and f"plugins=[{PLUGIN}]" in caught.value.remedy and not plugin()


@pytest.mark.parametrize(
    "word",
    [
        f"plugins=[{PLUGIN}]", "cluster.address=ray://evil.example:10001", "model.trust_remote_code=true",
        "tracking.wandb=online", "model.path=/elsewhere",
    ],
)  # fmt: skip
def test_the_overrides_of_a_base_model_are_no_way_round(a_run: Any, plugin: Any, word: str) -> None:
    run = a_run()
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["model"]["base_overrides"] = [word]
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(ConfigError) as caught:
        base_config(load([f"resume={run}"]))
    assert caught.value.field == "model.base_overrides" and not plugin()


def test_comparing_and_reporting_import_nothing(a_run: Any, plugin: Any, tmp_path: Path) -> None:
    from carerl import compare
    from carerl.report import write_evaluation_report, write_report

    run = a_run(plugins=[PLUGIN])
    (run / "summary.json").write_text(json.dumps({"status": "completed", "final": {"eval/accuracy": 0.5}}))
    write_report(run)
    write_evaluation_report(run)
    compare.main([str(run), f"out={tmp_path / 'compared'}"])
    assert not plugin()


def test_the_newest_checkpoint_is_a_directory_and_not_the_pointer(tmp_path: Path, a_run: Any) -> None:
    run = a_run()
    model(run / "checkpoints" / "step_000100" / "model")  # killed before the pointer was moved
    (run / "checkpoints" / ".step_000150.partial").mkdir()
    (run / "checkpoints" / "step_000200.damaged").mkdir()
    assert stored.newest_checkpoint(run) == run / "checkpoints" / "step_000100"
    assert evaluation_config([f"model={run}", "engine=hf"]).model.path.endswith("step_000100/model")
    (run / "checkpoints" / "latest").unlink()
    assert stored.has_checkpoint(run)
    assert load([TINY, "steps=50", f"run_dir={run}", "resume=auto"]).resume == str(run)
    assert not stored.has_checkpoint(tmp_path)


@pytest.mark.parametrize("recipe", ["care_grpo_tiny", "care_grpo_0_5b", "sft_decision_4b"])
def test_a_runs_file_is_a_recipe_of_the_same_run(recipe: str, tmp_path: Path) -> None:
    """Every setting comes back but for the two that a run writes down: the recipe's name, and the end tokens, which the
    next run finds in its own model."""
    config = load([f"recipe={recipe}", "seed=7", "steps=9"])
    config.rollout.end_ids = [151643, 151645]  # as the run writes them into its file
    (tmp_path / "config.yaml").write_text(dump(config))
    again = load([f"recipe={tmp_path / 'config.yaml'}"])
    assert (again.recipe, again.rollout.end_ids, again.scale) == ("config", [], "")
    config.recipe, config.rollout.end_ids = again.recipe, []
    assert plain(again) == plain(config)
