"""The settings of distillation: what is refused, with the field, and what is said before a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from carerl.config.load import load
from carerl.config.rehearsal import rehearsed
from carerl.distillation import DistillationConfig
from carerl.errors import ConfigError

RECIPES = Path(__file__).resolve().parents[2] / "recipes"

TINY = ["recipe=none_grpo_tiny"]
MIXTURE = [*TINY, "distillation.name=mixture"]


@pytest.mark.parametrize(
    ("words", "field", "told"),
    [
        ([*TINY, "distillation.name=hytuning"], "distillation.name", "none, mixture, prg"),
        ([*MIXTURE, "distillation.labelled=0"], "distillation.labelled", "above 0"),
        ([*MIXTURE, "distillation.labelled=1.5"], "distillation.labelled", "share"),
        ([*MIXTURE, "distillation.weight=-1"], "distillation.weight", "at least 0"),
        ([*MIXTURE, "distillation.per_step=1"], "distillation.per_step", "distillation.per_step=2"),
        ([*TINY, "distillation.name=prg", "distillation.floor=2"], "distillation.floor", "between 0 and 1"),
        ([*MIXTURE, "distillation.floor=.3"], "distillation.floor", "distillation.name=prg"),
        ([*MIXTURE, "distillation.last_step=false"], "distillation.last_step", "distillation.name=prg"),
        ([*MIXTURE, "distillation.shuffle=true"], "distillation.shuffle", "distillation.name=prg"),
        ([*MIXTURE, "distillation.least=.1"], "distillation.least", "distillation.name=prg"),
        ([*TINY, "distillation.name=prg", "distillation.least=-1"], "distillation.least", "at least 0"),
        ([*MIXTURE, "distillation.delimiter=;"], "distillation.delimiter", "distillation.name=prg"),
        ([*TINY, "distillation.name=prg", "distillation.delimiter="], "distillation.delimiter", "no step would ever"),
        (
            [*TINY, "distillation.name=prg", "distillation.supports=3", "distillation.last_step=false"],
            "distillation.supports",
            "distillation.supports=4 or more",
        ),
        ([*TINY, "distillation.weight=.5"], "distillation.weight", "distillation.name=mixture"),
        (["recipe=calibration_aware_tiny", "distillation.name=prg"], "decision.name", "same term"),
        ([*MIXTURE, "distillation.traces=rows.csv"], "distillation.traces", ".jsonl"),
        ([*MIXTURE, "distillation.traces=gone.jsonl"], "distillation.traces", "no such file"),
        ([*MIXTURE, "distillation.traces=s3://x/rows.jsonl"], "distillation.traces", "address"),
    ],
)
def test_settings_that_mean_nothing_are_refused(words: list[str], field: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(words)
    assert caught.value.field == field and told in str(caught.value)


def test_only_rl_has_distillation() -> None:
    for recipe in ("caspo_tiny", "base_tiny"):
        with pytest.raises(ConfigError, match="only a run of RL") as caught:
            load([f"recipe={recipe}", "distillation.name=prg"])
        assert caught.value.field == "distillation.name"


def test_finetuning_learns_labelled_traces_alone_and_reads_nothing_else() -> None:
    config = load(["recipe=rd_tiny", "distillation.labelled=.05"])
    assert config.distillation.lines(config) == [
        "distillation: what is learned are solutions of 5% of the questions, again and again"
    ]
    with pytest.raises(ConfigError, match="samples no responses") as caught:
        load(["recipe=rd_tiny", "distillation.name=prg"])
    assert caught.value.field == "distillation.name"
    for word in ("weight=.5", "per_step=4", "floor=.2"):
        with pytest.raises(ConfigError, match="prompts_per_step in each step"):
            load(["recipe=rd_tiny", f"distillation.{word}"])


def test_a_file_of_traces_may_lie_on_another_machine_only_in_a_plan(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    load([*MIXTURE, f"distillation.traces={tmp_path / 'rows.jsonl'}"])
    load([*MIXTURE, f"distillation.traces={tmp_path / 'gone.jsonl'}", "dry_run=true"])
    with pytest.raises(ConfigError, match="it is a directory"):
        (tmp_path / "folder.jsonl").mkdir()
        load([*MIXTURE, f"distillation.traces={tmp_path / 'folder.jsonl'}"])


def test_three_supports_are_enough_with_the_last_step_and_four_without_it() -> None:
    load([*TINY, "distillation.name=prg", "distillation.supports=3"])
    load([*TINY, "distillation.name=prg", "distillation.supports=4", "distillation.last_step=false"])


@pytest.mark.parametrize(
    ("words", "learns", "gains"),
    [
        ([], False, False),
        (["distillation.name=mixture"], True, False),
        (["distillation.name=mixture", "distillation.weight=0"], False, False),
        (["distillation.name=prg"], True, True),
        (["distillation.name=prg", "distillation.weight=0"], False, True),
    ],
)
def test_what_a_run_has_to_do_for_it(words: list[str], learns: bool, gains: bool) -> None:
    d = load([*TINY, *words]).distillation
    assert (d.learns, d.gains, d.on) == (learns, gains, learns or gains)


def test_a_run_says_which_traces_it_learns_and_how_responses_are_weighed() -> None:
    def said(*words: str) -> list[str]:
        config = load([*TINY, *words])
        return config.distillation.lines(config)

    assert said() == said("distillation.name=mixture", "distillation.weight=0") == []
    traces = "32 traces a step, solutions of 5% of the questions, weight 0.1"
    assert said("distillation.name=mixture", "distillation.labelled=.05") == [f"distillation (mixture): {traces}"]
    (line,) = said("distillation.name=prg", "distillation.last_step=false", "distillation.shuffle=true")
    assert "without their last step, shuffled among the step's responses, traces by 0.1 or more" in line
    (line,) = said("distillation.name=prg", "distillation.weight=0")
    assert "no traces" in line and "traces by" not in line


def test_the_labelled_share_is_one_question_at_least_and_all_at_most() -> None:
    def of(share: float, whole: int) -> int:
        return DistillationConfig(labelled=share).questions(whole)

    assert [of(0.01, n) for n in (1, 40, 149, 151, 6400)] == [1, 1, 1, 2, 64]
    assert of(1.0, 37) == 37 and of(0.01, 0) == 0


def test_a_rehearsal_has_a_trace_for_every_optimizer_step() -> None:
    small = rehearsed(load([*MIXTURE, "algorithm.minibatches=8", "distillation.per_step=64"]), cpu_vllm=False)
    assert small.distillation.per_step == 8 == small.algorithm.minibatches


def test_no_recipe_weighs_by_gains_that_are_rounding() -> None:
    """In bfloat16 another cut of the batch changed total gains by .04 nats in the mean, and by .12 at most."""
    found = {
        path.stem: load([f"recipe={path.stem}"]).distillation.least
        for path in sorted(RECIPES.glob("hytuning_*.yaml"))
        if load([f"recipe={path.stem}"]).learner.compute_dtype == "bfloat16"
    }
    assert found == {"hytuning_7b": 0.1}
