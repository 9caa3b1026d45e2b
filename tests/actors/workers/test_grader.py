"""What the grading actor makes of responses that state a confidence: read, kept apart from the answer, rewarded. And
what it leaves to the group where the reward is internal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from carerl.actors.handles.graders import Graders
from carerl.actors.workers.grader import GraderWorker
from carerl.backends.models import make_base_bytes
from carerl.config.load import load
from carerl.config.schema import ShapeConfig
from carerl.rewards import internal_rewards
from carerl.tasks import TASKS
from carerl.tasks.byte_tokenizer import VOCAB_SIZE, make_byte_tokenizer
from carerl.tasks.tiny import tokenizer as tk
from carerl.types import Example, Group, Outcome, Sample
from tests.actors.local import Local, without_ray


@pytest.fixture
def worker() -> Iterator[Any]:
    made: Any = GraderWorker()
    yield made
    if made._pool is not None:
        made._pool.close()


def test_a_stated_confidence_is_rewarded_and_is_no_answer(worker: Any, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"id": "sum", "question": "6 + 6?", "answer": "12", "grader": "gsm8k"}))
    make_base_bytes(tmp_path / "model", 1, ShapeConfig(vocab_size=VOCAB_SIZE))
    config = load(
        ["recipe=care_grpo_3b", "reward.name=rlcr", "task.name=jsonl", "task.ask_confidence=true", "dry_run=true",
         f"task.train={rows}", f"task.benchmarks=[{rows}]"]
    )  # fmt: skip
    worker.load(config, str(tmp_path / "model"))
    task = TASKS["jsonl"].build(config.task, 0)
    tokenizer = make_byte_tokenizer()
    task.attach(tokenizer)
    (example,) = task.suites()[0].examples
    stated = {  # by its last number, all of them would be graded for the confidence
        "It is 12. <confidence>0.8</confidence>": (Outcome.CORRECT, 0.8, 1 - 0.2**2),
        "It is 13. <confidence>0.8</confidence>": (Outcome.WRONG, 0.8, 0 - 0.8**2),
        "It is 12. <confidence>80</confidence>": (Outcome.CORRECT, None, 1 - 1.0),
        "12": (Outcome.CORRECT, None, 1 - 1.0),
    }
    samples = []
    for text in stated:
        ids = tuple(tokenizer.encode(text))
        samples.append(Sample("sum", ids, (-0.1,) * len(ids), False, (0, 0)))
    (group,), raised = worker.grade([Group(example, samples)])
    assert raised == ""
    found = [(s.outcome, s.stated_confidence) for s in group.samples]
    assert found == [(outcome, confidence) for outcome, confidence, _ in stated.values()]
    assert [s.reward for s in group.samples] == pytest.approx([reward for _, _, reward in stated.values()])


def test_an_internal_reward_leaves_outcomes_and_votes_to_the_graders_and_rewards_to_the_group(
    worker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the handle, as a step grades: the answers come blind, and no reward is made of one response."""
    config = load(["recipe=none_grpo_tiny", "reward.name=majority"])
    worker.load(config, "")
    without_ray(monkeypatch)
    asked: list[Any] = []
    graders = Graders([Local(worker, before=lambda name, arguments: asked.append(arguments[-1]))])
    example = Example("q", (0,), "3", {})
    samples = [
        Sample("q", tuple(tk.encode(text)), (-1.0,) * 3, False, (0, 0)) for text in ("A 7 <eos>", "A 3 <eos>") * 2
    ]
    (group,) = graders.grade([Group(example, [*samples, replace(samples[0])])], config.reward.internal)
    assert [s.outcome for s in group.samples[:2]] == [Outcome.WRONG, Outcome.CORRECT]
    assert asked == [True] and {s.reward for s in group.samples} == {None}
    internal_rewards([group], config.reward, 0)
    assert [s.reward for s in group.samples] == [1, 0, 1, 0, 1], "what is right is not asked"
