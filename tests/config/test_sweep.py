"""A sweep's words, and cells whose directories hold a run with other settings than are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from carerl.config.load import dump, load
from carerl.config.plan.plan import plan as planned
from carerl.config.reading.typed import setting_paths
from carerl.config.rehearsal import rehearsed
from carerl.config.sweep import (
    NOT_COMPARED,
    Spec,
    bare_word,
    check_stored,
    refuse_own,
    split_values,
    start_key,
    sweep_names,
    sweep_spec,
)
from carerl.controller.sweeps.sweep import _brief, _record_failure, cells
from carerl.errors import ConfigError
from carerl.sweep import Options, main, parse, place

TINY = "recipe=care_grpo_tiny"


def test_commas_make_a_grid_and_brackets_keep_a_list_whole() -> None:
    words = [TINY, "regularizer.alpha=0,.2,.5", "learner.optimizer.betas=[0.9,0.99],[0.9,0.95]", "seed=100", "out=x"]
    spec, grid, options = parse(words)
    assert spec == Spec([TINY]) and options == Options(out="x")
    assert grid == {
        "regularizer.alpha": ["0", ".2", ".5"],
        "learner.optimizer.betas": ["[0.9,0.99]", "[0.9,0.95]"],
        "seed": ["100"],
    }
    plan = cells(spec.rows, grid, Path("x"))
    assert len({cell.name for cell in plan}) == 6
    read = [load(cell.words) for cell in plan]
    assert {(c.regularizer.alpha, tuple(c.learner.optimizer.betas)) for c in read} == {  # type: ignore[attr-defined]
        (alpha, (0.9, second)) for alpha in (0.0, 0.2, 0.5) for second in (0.99, 0.95)
    }


def test_every_shipped_sweep_can_be_read() -> None:
    assert "regularizers_tiny" in sweep_names()
    for name in sweep_names():
        spec = sweep_spec(name)
        plan = cells(spec.rows, {"seed": ["100"]}, Path("x"), spec.shared)
        configs = [load([*cell.words, "dry_run=true"]) for cell in plan]
        assert all(planned(config).actors for config in configs), "each has a plan"


@pytest.mark.parametrize("name", ["regularizers_tny", "regularizer_tiny"])
def test_the_nearest_sweep_is_named(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        sweep_spec(name)
    error = caught.value
    assert (error.field, error.value, error.remedy) == ("sweep", name, "did you mean regularizers_tiny?")


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("care_grpo_tiny", "write recipe=care_grpo_tiny"),
        ("regularizers_tny", "write sweep=regularizers_tiny"),
        ("zzz", "see --help"),
    ],
)
def test_a_name_by_itself(word: str, remedy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bare_word(word).remedy == remedy
    assert main([word]) == 2
    assert f"remedy: {remedy}" in capsys.readouterr().err


@pytest.mark.parametrize("word", ["run_dir=x", "resume=x", "dry_run=true", "profile=true"])
def test_what_the_sweep_decides_is_not_for_a_cell(word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_own([TINY, word])
    assert caught.value.field == word.split("=")[0]
    refuse_own([TINY, "seed=100", "tracking.display=plain"])


def stored(cell: Path, *words: str) -> Path:
    cell.mkdir()
    (cell / "config.yaml").write_text(dump(load([TINY, *words])))
    return cell


def test_where_and_how_a_cell_was_run_does_not_matter(tmp_path: Path) -> None:
    assert set(NOT_COMPARED) <= set(setting_paths({}))
    cell = stored(tmp_path / "cell", "rollout.threads=1", "reference.threads=1", "learner.threads=1",
                  "tracking.display=quiet", "runs_dir=elsewhere", f"run_dir={tmp_path / 'x'}")  # fmt: skip
    check_stored(cell, load([TINY]), "complete")


@pytest.mark.parametrize(
    ("word", "field", "asked", "was"),
    [
        ("steps=7", "steps", 200, "7"),
        ("regularizer.beta=0.75", "regularizer.beta", load([TINY]).regularizer.beta, "0.75"),
        ("learner.optimizer.betas=[0.5,0.5]", "learner.optimizer.betas", [0.9, 0.99], "[0.5, 0.5]"),
        ("model.base_overrides=[steps=20]", "model.base_overrides", [], "['steps=20']"),
        ("tracking.rollouts_every=3", "tracking.rollouts_every", 10, "3"),
    ],
)
def test_a_cell_of_other_settings_is_refused(tmp_path: Path, word: str, field: str, asked: object, was: str) -> None:
    cell = stored(tmp_path / "cell-7", word)
    with pytest.raises(ConfigError) as caught:
        check_stored(cell, load([TINY]), "half done")
    error = caught.value
    assert (error.field, error.value) == (field, asked)
    assert error.reason == f"cell cell-7 is half done, and was run with {field} = {was}"
    assert error.remedy == f"give another out=, or delete the cell: {cell}"


def test_a_choice_of_another_name_and_how_many_settings_differ(tmp_path: Path) -> None:
    cell = stored(tmp_path / "cell", "regularizer.name=rkl", "steps=7", "seed=3", "prompts_per_step=8")
    with pytest.raises(ConfigError) as caught:
        check_stored(cell, load([TINY]), "complete")
    assert caught.value.field == "seed" and "seed = 3" in caught.value.reason
    assert "steps = 7, now 200" in caught.value.reason
    # seed, steps, prompts_per_step, regularizer.name and the alpha that rkl does not have: 5, of which 3 are shown
    assert "2 more differ" in caught.value.reason


@pytest.mark.parametrize("text", [None, "steps: [", "no_such_setting: 3\n"])
def test_a_cell_whose_settings_cannot_be_read_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        check_stored(tmp_path, load([TINY]), "complete")
    assert caught.value.field == "out" and "cannot be read" in caught.value.reason


def test_one_run_written_in_two_ways_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """As two cells they would count as two seeds, or as two points of one curve."""
    out = tmp_path / "sweep"
    assert main([TINY, "regularizer.alpha=.8,0.80", "seed=100", f"out={out}"]) == 2
    assert "regularizer.alpha-0.80" in (said := capsys.readouterr().err) and "once more" in said
    assert not out.exists(), "nothing had been started"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('"a,b"', ['"a,b"']), ("'a,b',c", ["'a,b'", "c"]), ("1, 2", ["1", "2"]), ("[1,2],[3]", ["[1,2]", "[3]"]),
        ("it's,that", ["it's", "that"]), ('["a]",b],c', ['["a]",b]', "c"]), ("{a: 'x,y'},2", ["{a: 'x,y'}", "2"]),
        ("'it''s, so',x", ["'it''s, so'", "x"]), ('"a\\",b",c', ['"a\\",b"', "c"]), ("", [""]), ("a]b,c", ["a]b", "c"]),
        ("'',x", ["''", "x"]), (" 1", [" 1"]),
    ],
)  # fmt: skip
def test_a_comma_in_quotes_or_brackets_separates_nothing(text: str, values: list[str]) -> None:
    assert split_values("key", text) == values


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["seed=1", "seed=2"], "seed=1,2"),
        (["recipe=none_grpo_tiny", "seed=1"], "recipe=care_grpo_tiny,none_grpo_tiny"),
        (["seed=1,,2"], "seed=1,2"), (["seed=1,"], "nothing between"), (["seed=[1,2"], "not closed"),
        (['description="a,b'], "not closed"), (["sweep=regularizers_tiny"], "one of the two"),
        (["workers=²"], "workers=2"),
        (["workers=2", "workers=3"], "given twice"), (["out=a", "out=b"], "given twice"),
        (["seed=1,", "2"], "seed=1,2"),
        (["seed=1", ",2"], "without a blank"), (["extends=[a]"], "extends"), (["description=a/b,a:b"], "two sweeps"),
    ],
)  # fmt: skip
def test_no_word_of_a_sweep_is_lost_or_split_without_a_word(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([TINY, *words, *([] if words[0].startswith("out") else [f"out={tmp_path / 'x'}"])]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_a_text_with_a_comma_is_one_cell_and_arrives_whole(tmp_path: Path) -> None:
    spec, grid, _ = parse(["recipe=care_grpo_tiny, none_grpo_tiny", 'description="a,b"', "seed=1"])
    plan = cells(spec.rows, grid, tmp_path)
    assert [load(cell.words).description for cell in plan] == ["a,b", "a,b"]
    assert [load(cell.words).recipe for cell in plan] == ["care_grpo_tiny", "none_grpo_tiny"]


def test_recipes_of_any_name_make_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    for name in ("my recipe", "it's", "x" * 240):
        (tmp_path / "recipes" / f"{name}.yaml").write_text("extends: [care_grpo_tiny]\n")
    spec, grid, _ = parse([f"recipe=my recipe,it's,{'x' * 240}", "seed=1,2"])
    plan = cells(spec.rows, grid, tmp_path)
    assert len({cell.name for cell in plan}) == 6 and max(len(cell.name) for cell in plan) < 255
    assert [load(cell.words).recipe for cell in plan[:3]] == ["my recipe", "it's", "x" * 240]


def test_hole_what_a_sweep_writes_of_a_failure_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "correct-horse-battery")
    (cell,) = cells([TINY], {"seed": ["1"]}, tmp_path)
    try:
        raise RuntimeError("401 for key correct-horse-battery at https://me:hunter2@host")
    except RuntimeError as error:
        _record_failure(cell, error)
        assert "correct-horse" not in _brief(error)
    text = (cell.directory / "error.txt").read_text()
    assert "RuntimeError: 401" in text and "correct-horse" not in text and "hunter2" not in text


def test_what_all_rows_share_is_in_no_directory_and_the_command_wins_over_it(tmp_path: Path) -> None:
    (one, other) = cells(
        [TINY, "recipe=none_grpo_tiny steps=5"], {"seed": ["7"]}, tmp_path, "steps=9 prompts_per_step=8"
    )
    assert (one.name, other.name) == ("care_grpo_tiny-seed-7", "none_grpo_tiny-steps-5-seed-7")
    assert load(one.words).steps == 9 and load(other.words).prompts_per_step == 8
    (own,) = cells([TINY], {"steps": ["3"]}, tmp_path, "steps=9")
    assert load(own.words).steps == 3
    with pytest.raises(ConfigError) as caught:
        cells([TINY], {}, tmp_path, "rehearse=true")
    assert caught.value.field == "rehearse"


def test_a_rehearsal_lies_beside_the_real_sweep(tmp_path: Path) -> None:
    def where(*words: str) -> Path:
        spec, _, options = parse(words)
        return place(spec, options)

    assert where("sweep=paper_3b") == Path("sweeps/paper_3b")
    assert where("sweep=paper_3b", "rehearse=true") == Path("sweeps/rehearse_paper_3b")
    assert where(TINY, f"out={tmp_path}/x", "rehearse=true") == tmp_path / "rehearse_x"


def test_the_evaluation_at_the_start_is_one_for_runs_that_differ_in_training_alone() -> None:
    spec = sweep_spec("paper_3b")
    plan = cells(spec.rows, {"seed": ["100", "101"]}, Path("x"), spec.shared)
    configs = [load([*cell.words, "dry_run=true"]) for cell in plan]
    assert len({start_key(config) for config in configs}) == 1, "a model of the hub is one for all seeds"
    first = start_key(configs[0])
    words = [*plan[0].words, "dry_run=true"]
    others = ["evaluation.samples=8", "evaluation.seed=1", "model.path=Qwen/Qwen2.5-7B", "task.benchmarks=[math500]"]
    others += ["rollout.max_new_tokens=100", "learner.compute_dtype=float32", "rollout.engine=hf"]
    for other in others:
        assert start_key(load([*words, other])) != first, other
    tiny = {start_key(load([TINY, f"seed={seed}"])) for seed in (1, 2)}
    assert len(tiny) == 2, "the seed makes the tiny world's base model"
    tossed = {start_key(rehearsed(load([*plan[0].words[:2], "rehearse=true", f"seed={s}"]))) for s in (1, 2)}
    assert len(tossed) == 2 and first not in tossed, "and it tosses the coins of a rehearsal"
