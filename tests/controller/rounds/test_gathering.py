"""What a round is drawn with, and what its continuations begin with. Not covered: whole rounds (../test_caspo.py)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from carerl.config.load import load
from carerl.controller.rounds.gathering import Gathering, drawn_with
from carerl.preferences.pairs import Bars
from tests.preferences.solved import EXAMPLE, solved


@pytest.mark.parametrize(
    ("word", "same"),
    [
        ("judge.actors=1", True),
        ("judge.max_batch_rows=32", True),
        ("judge.gpu_memory_utilization=.5", True),
        ("preference.beta=.3", True),
        ("judge.max_new_tokens=512", False),
        ("judge.temperature=.5", False),
        ("judge.revision=main", False),
        ("preference.delimiter=;", False),
    ],
)
def test_a_round_goes_on_unless_what_decides_its_verdicts_changes(word: str, same: bool) -> None:
    assert (drawn_with(load(["recipe=caspo_7b"])) == drawn_with(load(["recipe=caspo_7b", word]))) is same


def test_a_runner_up_that_ends_the_response_is_not_asked_for() -> None:
    """Behind token 1 the second most probable one ends a response (0), behind the prompt it does not (7)."""
    made = Gathering.__new__(Gathering)
    likeliest = {EXAMPLE.prompt_ids: [(1, -0.1), (7, -2.0)], (*EXAMPLE.prompt_ids, 1): [(2, -0.1), (0, -2.0)]}
    engines = SimpleNamespace(likeliest=lambda places: [likeliest[place] for place in places])
    parts: dict[str, Any] = {"_crew": SimpleNamespace(engines=engines), "_examples": [EXAMPLE]}
    made.__dict__ |= {**parts, "_config": load(["recipe=caspo_tiny"]), "_ends": (0,)}
    drawn = {0: [solved([((1,), 1.0, 0.3), ((2,), 1.0, 0.3)])]}
    assert made._given([0], drawn, Bars(unsure=0.5)) == {0: [(7,)]}
    made._ends = (7,)
    assert made._given([0], drawn, Bars(unsure=0.5)) == {0: [(1, 0)]}
