"""What a plugin adds by one line in a table is refused, explained and planned as the shipped lines are.

Training with them is in the tests of their rooms.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from carerl.config.check.run import validate
from carerl.config.help import help_text
from carerl.config.kinds import KINDS
from carerl.config.load import dump, load, read
from carerl.config.plan.plan import plan
from carerl.config.roles import actor_groups
from carerl.config.schema import RunConfig
from carerl.config.tables import CHOICES
from carerl.errors import ConfigError

PLUGIN = """
    from __future__ import annotations

    from dataclasses import dataclass
    from typing import Annotated

    from carerl.algorithms import ALGORITHMS, AlgorithmConfig, AlgorithmEntry
    from carerl.config.kinds import KINDS, Kind
    from carerl.errors import ConfigError
    from carerl.regularizers import REGULARIZERS, PenaltyConfig, RegularizerEntry
    from carerl.rewards import REWARDS, RewardEntry
    from carerl.settings import above, at_least, one_of
    from carerl.tasks import TASKS, TaskConfig, TaskEntry

    @dataclass
    class Wide(PenaltyConfig):
        name: str = "wide"
        beta: float = 0.5
        width: Annotated[float, above(0)] = 1.0  # nats

        def check(self, run):
            yield from super().check(run)
            if self.width > self.beta * 10:
                yield ConfigError("regularizer.width", self.width, "wider than ten betas", "raise regularizer.beta")

    @dataclass
    class Twice(AlgorithmConfig):
        name: str = "twice"
        repeats: Annotated[int, at_least(2)] = 2

        def check(self, run):
            yield from super().check(run)
            if self.repeats > run.prompts_per_step:
                yield ConfigError("algorithm.repeats", self.repeats, "more than prompts", "raise prompts_per_step")

    @dataclass
    class Sums(TaskConfig):
        name: str = "sums"
        sign: Annotated[str, one_of(("plus", "minus"))] = "plus"
        digits: int = 2

        @property
        def vocabulary(self):
            return 10 ** self.digits

        def check(self, run):
            if self.digits % 2:
                yield ConfigError("task.digits", self.digits, "an odd number of digits", "write task.digits=2")

    @dataclass
    class Bare:
        name: str = "bare"

    REGULARIZERS["wide"] = RegularizerEntry(Wide, None, "a wide penalty")
    ALGORITHMS["twice"] = AlgorithmEntry(Twice, None, "everything twice")
    TASKS["sums"] = TaskEntry(Sums, None, "sums of digits")
    REWARDS["bare"] = RewardEntry(Bare, None, "without a base class")
    KINDS["distil"] = Kind(("learner", "reference"), ("task",), "the reference's answers are learned")
"""
ALL = "recipe=care_grpo_tiny plugins=[plugin_of_this_test] regularizer.name=wide algorithm.name=twice task.name=sums"
ROOMY = "model.shape.vocab_size=100"


@pytest.fixture(autouse=True)
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "plugin_of_this_test.py").write_text(textwrap.dedent(PLUGIN))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for table in (*CHOICES.values(), KINDS):
        for name in ("wide", "twice", "sums", "bare", "distil"):
            table.pop(name, None)  # type: ignore[attr-defined]
    sys.modules.pop("plugin_of_this_test", None)


def refused(*words: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load([*ALL.split(), *words])
    return caught.value


@pytest.mark.parametrize(
    ("word", "field", "reason"),
    [
        ("regularizer.width=0", "regularizer.width", "above 0"),
        ("regularizer.beta=-1", "regularizer.beta", "at least 0"),  # a bound of the base class
        ("algorithm.repeats=1", "algorithm.repeats", "at least 2"),
        ("task.sign=times", "task.sign", "one of plus, minus"),
    ],
)
def test_a_value_beyond_a_plugins_bound_is_refused(word: str, field: str, reason: str) -> None:
    error = refused(ROOMY, word)
    assert error.field == field and reason in error.reason and not error.others


@pytest.mark.parametrize(
    ("words", "field", "reason"),
    [
        ("regularizer.width=6", "regularizer.width", "ten betas"),
        ("regularizer.estimator=k1", "regularizer.estimator", "k1"),  # a check of the base class
        ("algorithm.repeats=33", "algorithm.repeats", "more than prompts"),
        ("algorithm.minibatches=5", "algorithm.minibatches", "do not divide"),
        ("task.digits=1", "task.digits", "odd number"),
        ("model.shape.vocab_size=99", "model.shape.vocab_size", "task sums has 100 tokens"),
        ("regularizer.name=wide regularizer.alpha=.5", "regularizer.alpha", "not a setting of regularizer wide"),
        ("reward.name=bare", "reward.name", "no RewardConfig"),
    ],
)
def test_settings_that_a_plugins_check_refuses(words: str, field: str, reason: str) -> None:
    error = refused(ROOMY, *words.split())
    assert error.field == field and reason in error.reason and error.remedy


def test_checks_of_several_parts_are_reported_together() -> None:
    error = refused(ROOMY, "regularizer.width=6", "algorithm.repeats=33", "task.digits=1")
    assert [error.field, *(other.field for other in error.others)] == [
        "task.digits", "algorithm.repeats", "regularizer.width",
    ]  # fmt: skip


def test_help_explains_a_plugins_settings_and_their_bounds() -> None:
    words = ["--help", "plugins=[plugin_of_this_test]"]
    (line,) = [line for line in help_text([*words, "regularizer=wide"]).splitlines() if "regularizer.width" in line]
    assert line.split(None, 3) == ["regularizer.width", "float", "1.0", "nats; above 0"]
    assert "at least 2" in help_text([*words, "repeats"])
    assert "one of plus, minus" in help_text([*words, "task=sums"])


def test_a_run_of_plugins_is_planned_stored_and_read_back(tmp_path: Path) -> None:
    config = load([*ALL.split(), ROOMY, "dry_run=true", "algorithm.group_size=4"])
    planned = plan(config)
    assert (planned.batch.rows, planned.batch.samples) == (32 * 4, 4)
    (tmp_path / "config.yaml").write_text(dump(config))
    assert read(tmp_path / "config.yaml") == config


def test_a_plugins_kind_says_what_is_started_and_needed() -> None:
    words = ["recipe=base_tiny", "plugins=[plugin_of_this_test]", "kind=distil"]
    config = load(words)
    assert [group.role for group in actor_groups(config)] == ["learner", "reference"]
    assert not config.evaluates and not config.trains_on_questions
    plan(config)
    with pytest.raises(ConfigError, match="a run of kind distil has no reward"):
        load([*words, "reward.name=correct"])
    with pytest.raises(ConfigError, match="starts no engine"):
        load([*words, "evaluation.at_end=true"])
    with pytest.raises(ConfigError, match="one of rl, finetune, caspo, sft, untrained, evaluate, distil"):
        load([*words, "kind=distill"])


def test_a_kind_that_is_no_kind_is_refused_by_its_bound_too() -> None:
    with pytest.raises(ConfigError, match="kind = other"):
        validate(RunConfig(kind="other"))
