"""Prompts of the tiny world for anchors: what they are, that no evaluation asks them, and their fixed order."""

from __future__ import annotations

import pytest

from carerl.anchors import AnchorConfig
from carerl.tasks import TASKS
from carerl.tasks.base import prompts_at
from carerl.tasks.tiny import tokenizer as tk
from carerl.tasks.tiny.anchors import SOURCES
from carerl.tasks.tiny.config import TinyConfig
from carerl.tasks.tiny.task import TinyTask


def task(seed: int = 7, **settings: int) -> TinyTask:
    made = TASKS["tiny"].build(TinyConfig(**settings), seed)
    assert isinstance(made, TinyTask)
    return made


@pytest.mark.parametrize("source", SOURCES)
def test_the_order_depends_on_the_seed_alone_and_no_evaluation_asks_a_prompt(source: str) -> None:
    world = task(evaluation_facts=75)
    whole = world.anchor_prompts(source, 0, 500)
    assert [*world.anchor_prompts(source, 0, 7), *world.anchor_prompts(source, 7, 93)] == whole[:100]
    assert world.anchor_prompts(source, 431, 5) == whole[431:436]
    assert task(evaluation_facts=75).anchor_prompts(source, 0, 500) == whole
    assert task(8, evaluation_facts=75).anchor_prompts(source, 0, 500) != whole
    asked = {example.prompt_ids for suite in world.suites() for example in suite.examples}
    assert not asked.intersection(whole)
    assert not any(token in (tk.PAD, tk.EOS) for prompt in whole for token in prompt)


def names_of(rows: object) -> set[tuple[int, ...]]:
    return {(tk.FACT, *(int(letter) + tk.LETTER for letter in row), tk.EQUALS) for row in rows}  # type: ignore[attr-defined]


def test_each_source_is_of_its_family() -> None:
    world = task(evaluation_facts=100)
    made_up, facts = (set(world.anchor_prompts(source, 0, 2000)) for source in ("names", "facts"))
    assert made_up <= names_of(world.world.pool_M3) and len(made_up) > 1800, "17,026 names to draw from"
    assert facts == names_of(world.world.entities_E3[100:]), "all fifty that no suite asks for"
    textbook = world.anchor_prompts("textbook", 0, 600)
    assert {prompt[0] for prompt in textbook} == {tk.TEXTBOOK} and {len(prompt) for prompt in textbook} == {5, 6, 7}
    nonsense = world.anchor_prompts("random", 0, 600)
    assert {len(prompt) for prompt in nonsense} == {6}, "as long as a question of three operators"
    assert len({token for prompt in nonsense for token in prompt}) == tk.VOCAB_SIZE - 3


def test_facts_without_one_to_spare_are_refused() -> None:
    with pytest.raises(ValueError, match=r"every one of task\.entities=150 names is asked"):
        task().anchor_prompts("facts", 0, 1)


def test_a_pool_comes_again_in_its_order() -> None:
    world = task()
    pool = AnchorConfig("prompts", "names", pool=5)
    first = world.anchor_prompts("names", 0, 5)
    assert prompts_at(world, pool, 3, 9) == [*first[3:], *first, *first[:2]]
    assert prompts_at(world, AnchorConfig("prompts", "names"), 3, 9) == world.anchor_prompts("names", 3, 9)
