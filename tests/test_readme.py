"""The README: its plugin runs, its reading order exists, and it stays short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from carerl.cli import COMMANDS
from carerl.config.load import load
from carerl.config.plan.plan import plan
from carerl.errors import ConfigError
from carerl.regularizers import REGULARIZERS, PenaltyConfig
from tests.test_floors import FLOORS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = (
    "README.md",
    "carerl/README.md",
    "recipes/README.md",
    "recipes/RESULTS.md",
    "cluster/README.md",
    "tests/README.md",
)


def test_it_is_short() -> None:
    assert len(README.split()) <= 1600


@pytest.mark.parametrize("page", PAGES)
def test_its_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", (ROOT / page).read_text(encoding="utf-8")):
        assert ((ROOT / page).parent / target).exists(), target


def test_the_tests_that_are_named_are_there() -> None:
    named = re.findall(r"`([a-z_0-9/]+\.py|[a-z_0-9]+/)`", (ROOT / "tests/README.md").read_text(encoding="utf-8"))
    beside = ("hub_server.py",)  # a helper that is named after the test beside it
    assert len(named) > 60
    assert [name for name in named if name not in beside and not (ROOT / "tests" / name).exists()] == []


def test_the_files_to_read_are_an_afternoon() -> None:
    files = re.findall(r"^\d\. \[`([^`]+)`\]", README, re.MULTILINE)
    assert len(files) == 6
    assert sum(len((ROOT / file).read_text().splitlines()) for file in files) < 900


def test_every_verb_in_an_example_is_one() -> None:
    verbs = re.findall(r"^ {4}carerl (\w+)", "\n".join((ROOT / page).read_text() for page in PAGES), re.MULTILINE)
    assert len(verbs) > 10 and set(verbs) <= set(COMMANDS)


def test_the_regularizer_in_20_lines_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a plugin by the README's own command; its coefficient is the gradient of its exact divergence, float64."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "jeffreys.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    (words,) = re.findall(r"`carerl run (recipe=care_grpo_tiny plugins=\S+ \S+)`", README)
    try:
        config = load([*words.split(), "dry_run=true"])
        assert isinstance(config.regularizer, PenaltyConfig) and config.regularizer.beta == 4.0 and plan(config).fits
        with pytest.raises(ConfigError, match="a mean under the reference"):
            load([*words.split(), "regularizer.estimator=k2"])
        jeffreys = REGULARIZERS["jeffreys"].build(config.regularizer)
        logits_NV = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
        logp_NV, logr_NV = logits_NV.log_softmax(-1), torch.randn(5, 7, dtype=torch.float64).log_softmax(-1)
        exact_N = jeffreys.exact(logp_NV, logr_NV)
        (wanted_NV,) = torch.autograd.grad(exact_N.sum(), logits_NV, retain_graph=True)
        p_NV = logp_NV.detach().exp()
        sampled_N = (p_NV * jeffreys.coefficient(logp_NV, logr_NV) * logp_NV).sum(-1)
        (found_NV,) = torch.autograd.grad(sampled_N.sum(), logits_NV)
        torch.testing.assert_close(found_NV, wanted_NV, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close((p_NV * jeffreys.value(logp_NV, logr_NV)).sum(-1), exact_N.detach())
        assert not jeffreys.coefficient(logr_NV, logr_NV).any() and (jeffreys.value(logp_NV, logr_NV) >= 0).all()
    finally:
        REGULARIZERS.pop("jeffreys", None)


def test_the_map_has_the_floors_that_the_rule_has() -> None:
    rows = re.findall(r"(?m)^\| ([0-9–]+) \| (.+?) \|", README)
    told = {room: int(floor) for floor, rooms in rows if floor.isdecimal() for room in re.findall(r"`(\w+)`", rooms)}
    assert told == {room: floor for room, floor in FLOORS.items() if floor < FLOORS["cli"]}
