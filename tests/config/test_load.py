"""Dump and read, keys, the base model's settings, help."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from carerl.config import load as module
from carerl.config.check.run import validate
from carerl.config.help import usage, wants_help
from carerl.config.load import base_config, base_key, dump, load, parse, read, settings_key
from carerl.config.reading.scalars import native
from carerl.errors import ConfigError


def test_values_are_yaml_and_the_last_word_wins() -> None:
    assert native(parse(["a.b=1e-3", "a.c=[1,2]", "d=yes", "e=", "f='x: y'", "a.b=2"])) == {
        "a": {"b": 2, "c": [1, 2]},
        "d": True,
        "e": None,
        "f": "x: y",
    }
    assert load(["recipe=care_grpo_tiny", "regularizer.beta=2"]).regularizer.beta == 2.0
    assert isinstance(load(["recipe=care_grpo_tiny", "regularizer.beta=2"]).regularizer.beta, float)
    assert load(["recipe=care_grpo_tiny", "learner.optimizer.lr=+.5"]).learner.optimizer.lr == 0.5


def test_off_means_off() -> None:
    # YAML reads a bare off as false
    assert load(["recipe=care_grpo_tiny", "tracking.wandb=off"]).tracking.wandb == "off"


def test_dump_and_read_are_inverse_for_every_kind_of_value(tmp_path) -> None:
    words = ["recipe=care_grpo_tiny", "description='on: x'", "learner.optimizer.betas=[0.1,0.2]"]
    config = load([*words, "learner.optimizer.eps=1e-12"])
    config.runs_dir = "7"  # text that looks like a number
    path = tmp_path / "c.yaml"
    path.write_text(dump(config))
    assert read(path) == config


def test_read_is_strict(tmp_path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(dump(load(["recipe=care_grpo_tiny"])).replace("max_batch_rows", "max_batch_row"))
    with pytest.raises(ConfigError, match=r"max_batch_rows\?"):
        read(path)


def test_settings_key_depends_on_values_and_not_on_order() -> None:
    assert settings_key({"a": 1, "b": [1.0, 2]}) == settings_key({"b": [1.0, 2], "a": 1})
    assert settings_key({"a": 1}) != settings_key({"a": 2})
    assert len(settings_key({})) == 16


def test_the_base_lives_in_the_runs_world() -> None:
    run = load(
        ["recipe=care_grpo_tiny", "seed=7", "task.entities=90", "task.evaluation_facts=90", "model.shape.num_layers=2"]
    )
    base = base_config(run)
    assert (base.recipe, base.kind, base.seed, base.steps) == ("base_tiny", "sft", 7, 2000)
    assert base.task == run.task and base.model.shape == run.model.shape
    assert base.model.base_recipe == "" and base.learner.optimizer.lr == 3e-3
    quick = load(["recipe=care_grpo_tiny", 'model.base_overrides=["steps=20"]'])
    assert base_config(quick).steps == 20


SAME = ["learner.ranks=2", "learner.micro_batch_rows=64", "rollout.engine=hf", "regularizer.beta=1",
        "steps=5", "evaluation.every=1", "runs_dir=elsewhere", "learner.optimizer.lr=1"]  # fmt: skip
OTHER = ["seed=101", "task.entities=151", "model.shape.num_layers=2", "model.dtype=bfloat16",
         'model.base_overrides=["steps=20"]', 'model.base_overrides=["learner.optimizer.lr=1e-3"]',
         'model.base_overrides=["learner.schedule.name=constant"]']  # fmt: skip


def _key(*words: str) -> str:
    return base_key(base_config(load(["recipe=care_grpo_tiny", "sync.probe_mean_abort=0.5", *words])))


@pytest.mark.parametrize("word", SAME)
def test_what_the_base_does_not_depend_on_keeps_its_key(word: str) -> None:
    assert _key(word) == _key()


@pytest.mark.parametrize("word", OTHER)
def test_what_decides_the_base_changes_its_key(word: str) -> None:
    assert _key(word) != _key()


def test_all_variants_share_one_base() -> None:
    names = ["none", "rkl", "care", "rkl_tuned", "fkl_tuned"]
    assert len({base_key(base_config(load([f"recipe={n}_grpo_tiny"]))) for n in names}) == 1
    # and it is the one that recipe=base_tiny itself makes
    assert base_key(load(["recipe=base_tiny"])) == base_key(base_config(load(["recipe=care_grpo_tiny"])))


def test_a_changed_world_changes_the_key(monkeypatch) -> None:
    before = _key()
    monkeypatch.setattr(module, "source_text", lambda task_type: "another world")
    assert _key() != before


def test_help_lists_every_recipe_and_table_line() -> None:
    text = usage()
    for name in ("care_grpo_tiny", "base_tiny", "none_grpo_3b", "srkl", "grpo", "tiny", "correct"):
        assert any(line.split()[:1] == [name] and len(line.split()) > 1 for line in text.splitlines()), name
    assert wants_help(["--help"]) and wants_help(["recipe=?"]) and wants_help([])
    assert not wants_help(["recipe=care_grpo_tiny"])


def test_validate_reads_and_does_not_write() -> None:
    config = load(["recipe=care_grpo_tiny"])
    before = copy.deepcopy(config)
    validate(config)
    assert config == before
    with pytest.raises(ConfigError):
        validate(replace(config, seed=-1))


def test_one_command_starts_a_run_and_goes_on_with_it(tmp_path) -> None:
    place = tmp_path / "run"
    words = ["recipe=care_grpo_tiny", "seed=7", f"run_dir={place}", "resume=auto"]
    fresh = load(words)
    assert (fresh.resume, fresh.run_dir) == ("auto", str(place))
    place.mkdir()
    (place / ".lock").touch()
    (place / "config.yaml").write_text(dump(replace(fresh, resume="")))
    assert load(words).resume == "auto", "it came to no checkpoint"
    (place / "checkpoints" / "step_000050").mkdir(parents=True)
    (place / "checkpoints" / "latest").symlink_to("step_000050")
    again = load([*words, "evaluation.every=7"])
    assert (again.resume, again.run_dir, again.evaluation.every) == (str(place), str(place), 7)
    with pytest.raises(ConfigError, match="another run") as caught:
        load([*words, "seed=8"])
    assert caught.value.field == "seed"


def test_a_run_of_before_a_setting_was_retired_goes_on_without_it_and_says_so(tmp_path, capsys) -> None:
    stored = dump(load(["recipe=care_grpo_tiny"])).replace("probe_mean_abort: 0.0", "probe_abort: 0.001")
    assert "probe_abort" in stored
    (tmp_path / "config.yaml").write_text(stored)
    assert load([f"resume={tmp_path}"]).sync.probe_mean_abort == 0.0
    assert "sync.probe_abort = 0.001 is left out" in capsys.readouterr().err
    with pytest.raises(ConfigError) as caught:
        load([f"resume={tmp_path}", "sync.probe_abort=.001"])
    assert caught.value.field == "sync.probe_abort"


def test_resume_auto_touches_nothing_that_is_no_run(tmp_path) -> None:
    (tmp_path / "thesis.txt").write_text("kept")
    with pytest.raises(ConfigError, match="no run") as caught:
        load(["recipe=care_grpo_tiny", f"run_dir={tmp_path}", "resume=auto"])
    assert caught.value.field == "run_dir"
    with pytest.raises(ConfigError, match="there is no run_dir"):
        load(["recipe=care_grpo_tiny", "resume=auto"])
