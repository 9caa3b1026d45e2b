"""``--help SECTION`` against the dataclasses, their source and what the checks refuse."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_type_hints

import pytest

from carerl import run
from carerl.config.help import every_setting, field_comments, help_text, topic_text, usage, wants_help
from carerl.config.load import load
from carerl.config.schema import RolloutConfig, RunConfig
from carerl.config.tables import CHOICES
from carerl.errors import ConfigError
from carerl.settings import OneOf, bound_errors, bounds_of


def leaf_paths(cls: type, prefix: str = "") -> list[str]:
    found = []
    for name, hint in get_type_hints(cls).items():
        if name in CHOICES:
            continue
        if is_dataclass(hint) and isinstance(hint, type):
            found += leaf_paths(hint, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


@pytest.mark.parametrize("path", leaf_paths(RunConfig))
def test_every_setting_stands_in_the_help_of_its_section(path: str) -> None:
    section = path.rpartition(".")[0] or "run"
    (line,) = [line for line in topic_text(section).splitlines() if line.split()[:1] == [path]]
    default: Any = RunConfig()
    for part in path.split("."):
        default = getattr(default, part)
    shown = str(default).lower() if isinstance(default, bool) else str(default) or "''"
    shown = shown.replace("\n", r"\n")
    assert shown in line


@pytest.mark.parametrize(("section", "name"), [(s, n) for s, table in CHOICES.items() for n in table])
def test_every_choice_lists_its_settings_inherited_ones_too(section: str, name: str) -> None:
    text = help_text(["--help", f"{section}={name}"])
    own = [f.name for f in fields(CHOICES[section][name].config) if f.name != "name"]
    assert [line.split()[0] for line in text.splitlines() if line.startswith(f"  {section}.")] == [
        f"{section}.{field}" for field in own
    ]
    assert CHOICES[section][name].line in text
    whole = help_text(["--help", section])
    listed = whole.split(f"{section}.name={name}: ")[1].split(f"\n\n{section}.name=")[0]
    assert all(re.search(rf"\b{field}\b", listed) for field in own), "without a name all choices are listed"


@pytest.mark.parametrize("section", CHOICES)
def test_a_setting_that_choices_share_is_explained_once(section: str) -> None:
    explained = [line for line in help_text(["--help", section]).splitlines() if line.startswith(f"  {section}.")]
    assert len(explained) == len(set(explained))


def test_comments_are_those_of_the_source() -> None:
    text = topic_text("rollout")
    assert field_comments(RolloutConfig)["max_model_len"] == "prompt + response, tokens"
    (line,) = [line for line in text.splitlines() if "rollout.max_model_len" in line]
    assert line.split(None, 3)[1:] == ["int", "64", "prompt + response, tokens; at least 2"]
    assert "optimizer steps per batch of rollouts" in topic_text("algorithm=dapo"), "from the class it inherits from"
    assert "share of the policy in the mixture" in topic_text("regularizer=srkl"), "from its docstring"


@dataclass
class Awkward:
    """Fields as people write them."""

    # above it,
    # on two lines
    a: int = 1
    b: str = "# not a comment"
    c: dict[str, int] | None = (
        None  # on a line of its own
    )  # fmt: skip
    d: float = 0.5  # beside # it


@dataclass
class Heir(Awkward):
    a: int = 2
    d: float = 0.25  # of its own


def test_comments_are_found_wherever_they_stand() -> None:
    assert field_comments(Awkward) == {"a": "above it, on two lines", "c": "on a line of its own", "d": "beside # it"}
    assert field_comments(Heir) == {"a": "above it, on two lines", "c": "on a line of its own", "d": "of its own"}


OWN = [(f"{section}.{f.name}", entry.config) for section, table in CHOICES.items() for entry in table.values()
       for f in fields(entry.config) if f.name != "name"]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "choice"), [*((s.path, None) for s in every_setting() if s.path.split(".")[0] not in CHOICES), *OWN]
)
def test_bounds_are_what_the_checks_refuse(path: str, choice: type | None) -> None:
    """A value just beyond the stated bound is refused, and one at it is not; without a bound nothing is."""
    config = load(["recipe=care_grpo_tiny"])
    *parents, name = path.split(".")
    if choice is not None:
        setattr(config, parents[0], choice())
    owner: Any = config
    for part in parents:
        owner = getattr(owner, part)
    bounds, kind = bounds_of(type(owner))[name], type(getattr(owner, name))
    shown = topic_text(path)

    def refused(value: Any) -> bool:
        setattr(owner, name, value)
        return any(error.field == path for error in bound_errors(config))

    for bound in bounds:
        words = bound.words
        if isinstance(bound, OneOf):
            assert refused("nothing of the kind") and not refused(list(bound.names)[-1])
        elif words.startswith("at least") and "or -1" in words:
            assert refused(0) and not refused(-1) and not refused(1)
        elif words.startswith("at least"):
            low = float(words.split()[-1])
            assert refused(kind(low - 1)) and not refused(kind(low))
        elif words.startswith("at most"):
            high = float(words.split()[-1])
            assert refused(kind(high + 1)) and not refused(kind(high))
        elif words.startswith("above 0"):
            assert refused(kind(0)) and not refused(kind(1)) and (refused(1.5) if "at most 1" in words else True)
        elif words == "0 to 1":
            assert refused(-0.1) and refused(1.1) and not refused(1.0)
        else:
            assert path == "learner.optimizer.betas" and refused([0.9]) and not refused([0.0, 0.9])
        assert isinstance(bound, OneOf) or words.split()[-1] in shown
    if kind in (int, float) and not bounds:
        assert not refused(kind(-1e6)), "a bound that the help does not tell"
    assert kind is not float or refused(math.nan)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--help", "learner.optimizer"], "learner.optimizer.lr"),
        (["rollout", "--help"], "rollout.engine"),
        (["help=rollout"], "rollout.engine"),
        (["--help=rollout"], "rollout.engine"),
        (["help", "algorithm=dapo"], "algorithm.max_draws"),
        (["--help", "algorithm.name=dapo"], "algorithm.max_draws"),
        (["--help", "lr"], "learner.optimizer.lr"),
        (["--help", "rollout.threads"], "rollout.threads"),
        (["--help", "rollout", "sync"], "sync.bucket_mib"),
        (["recipe=care_grpo_tiny", "--help"], "recipes (from"),
        (["--help"], "recipes (from"),
    ],
)
def test_forms_of_asking(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert wants_help(words) and run.main(words) == 0
    assert expected in capsys.readouterr().out


def test_the_usage_says_how_and_names_every_section() -> None:
    text = " ".join(usage().split())
    assert "--help rollout" in text and "all settings of a section" in text
    for section in ("learner.optimizer", "model.shape", "cluster", *CHOICES):
        assert f"{section}," in text or f" {section} " in text
    assert "1_gpu_24gb RL of up to 1.5B parameters on one GPU of 24 GB" in text and "tiny_decisions RL of the" in text
    assert "further sections: learner.lora, learner.optimizer, learner.schedule" in topic_text("learner")


@pytest.mark.parametrize(
    ("topic", "guess"),
    [("dapo", "algorithm=dapo"), ("optimizer", "learner.optimizer"), ("learning_rate", "lr"), ("kl", "beta"),
     ("batch_size", "prompts_per_step or micro_batch_rows"), ("gpus", "gpu"), ("rolout", "rollout"),
      ("learner.optimiser", "learner.optimizer"), ("algorithm=grop", "algorithm=grpo"),
     ("max_new_token", "max_new_tokens")],
)  # fmt: skip
def test_an_unknown_topic_gets_the_nearest_one(topic: str, guess: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--help", topic]) == 2
    assert f"did you mean --help {guess}?" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="the sections are run, "):
        topic_text("xyzzy")
    for topic in ("bar", "log", "ppo"):  # a word that is merely a little like another
        with pytest.raises(ConfigError) as caught:
            topic_text(topic)
        assert "did you mean" not in caught.value.remedy


def test_a_plugins_choices_are_explained(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_rewards.py").write_text(
        "from dataclasses import dataclass\n"
        "from carerl.rewards import REWARDS, RewardConfig, RewardEntry\n"
        "@dataclass\n"
        "class Mine(RewardConfig):\n"
        "    name: str = 'mine'\n"
        "    weight: float = 2.0  # of brevity\n"
        "REWARDS['mine'] = RewardEntry(Mine, None, 'my own')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        text = help_text(["--help", "plugins=[my_rewards]", "reward=mine"])
        assert "reward.weight" in text and "of brevity" in text
    finally:
        CHOICES["reward"].pop("mine", None)  # type: ignore[attr-defined]
