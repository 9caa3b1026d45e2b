"""Gains of text: judged without the gold answer, cut into steps, the answer found in the tokens, and its supports from
the learner; against a plain forward pass of the same beginnings, cut by hand.

The parts alone: ``tests/tasks/test_answers.py``, ``tests/tasks/test_judging.py``, ``tests/inference/test_steps.py``.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from carerl.backends.initial import init_tiny
from carerl.backends.models import make_model, save_model
from carerl.config.load import load
from carerl.config.schema import ShapeConfig
from carerl.controller.loops.distilling import hybrid
from carerl.controller.loops.feedback import feedback, supports_of
from carerl.controller.rounds.scoring import splitter_of
from carerl.distillation import progressive_gain
from carerl.grading.pool import GraderPool
from carerl.tasks import TextConfig, TextTask
from carerl.tasks.byte_tokenizer import make_byte_tokenizer
from carerl.tasks.judging import Judge
from carerl.types import Group, Outcome, Sample
from tests.actors.in_process import crew_in_process
from tests.qwen_vocabulary import qwen_directory_or_skip

ROWS = [{"id": "sum", "question": "2 + 2?", "answer": "4"}, {"id": "half", "question": "Half of one?", "answer": "1/2"}]
BOX = r"\boxed{"
SAID = (  # a response's steps, what marks its answer, the answer, and what follows
    (("Two and two.\n\n", "They make four.\n\n", "So "), BOX, "4", "}."),
    (("First \\boxed{1}.\n\n", "No, "), BOX, r"\frac{1}{2}", "}\n\nIndeed."),
    (("It is ",), BOX, "12", "}"),
    (("Nobody ", "knows."), "", "", ""),
)
WORDS = ["recipe=hytuning_tiny", "rollout.temperature=1", "distillation.least=0"]
Parts = tuple[tuple[str, ...], str, str, str]


def text_of(parts: Parts) -> str:
    steps, mark, answer, after = parts
    return "".join((*steps, mark, answer, after))


def tokens_within(ids: tuple[int, ...], decode: Any, text: str) -> int:
    """How many of a response's tokens lie within its beginning ``text``."""
    return max(n for n in range(len(ids) + 1) if text.startswith(decode(list(ids[:n]))))


def tokens_holding(ids: tuple[int, ...], decode: Any, text: str) -> int:
    """How many of a response's tokens it takes to hold all of its beginning ``text``."""
    return min(n for n in range(len(ids) + 1) if decode(list(ids[:n])).startswith(text))


def by_hand(model: Any, prompt: tuple[int, ...], ids: tuple[int, ...], decode: Any, parts: Parts) -> list[float]:
    """The answer's mean log-prob after each number of steps, one plain pass each."""
    steps, mark, answer, _ = parts
    before = "".join(steps)
    marked, start = (tokens_within(ids, decode, text) for text in (before, before + mark))
    end = tokens_holding(ids, decode, before + mark + answer)
    found = []
    for k in range(len(steps) + 1):
        head = (*prompt, *ids[: tokens_within(ids, decode, "".join(steps[:k]))], *ids[marked:start])
        with torch.no_grad():
            logp = model(torch.tensor([[*head, *ids[start:end]]])).logits[0].float().log_softmax(-1)
        places = range(len(head) - 1, len(head) + end - start - 1)
        found.append(float(torch.stack([logp[p, i] for p, i in zip(places, ids[start:end], strict=True)]).mean()))
    return found


@pytest.fixture(scope="module", params=["bytes", pytest.param("Qwen2.5", marks=pytest.mark.slow)])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A context with a learner of text, and judged responses to a question."""
    from transformers import AutoTokenizer

    tmp_path = tmp_path_factory.mktemp("text")
    if request.param == "bytes":
        tokenizer, size = make_byte_tokenizer(), 261
    else:
        tokenizer, size = AutoTokenizer.from_pretrained(qwen_directory_or_skip(tmp_path / "qwen")), 152_064
    generator = torch.Generator().manual_seed(2)
    shape = ShapeConfig(vocab_size=size, hidden_size=32, context_length=512)
    made = make_model(shape, (tokenizer.eos_token_id,), lambda model: init_tiny(model, generator))
    with torch.no_grad():
        made.get_output_embeddings().weight.mul_(8)  # sharp enough for steps to matter
    save_model(tmp_path / "model", made.config, {n: p.detach() for n, p in made.named_parameters()}, tokenizer)
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    task = TextTask(TextConfig(train=str(tmp_path / "rows.jsonl")), 1)
    task.attach(tokenizer)
    (example,) = task.train_examples(0, 1)
    samples = []
    for parts in SAID:
        ids = tuple(tokenizer.encode(text_of(parts), add_special_tokens=False))
        samples.append(Sample(example.id, ids, (0.0,) * len(ids), False, (0, 0)))
    with GraderPool() as pool:
        (group,), failed = Judge(task, None, pool).judge([Group(example, samples)], blind=True)
    assert failed == "" and [sample.answer is None for sample in samples] == [False, False, False, True]
    assert {sample.outcome for sample in samples[:3]} == {Outcome.CORRECT, Outcome.WRONG}
    config = load(WORDS)
    with pytest.MonkeyPatch.context() as monkeypatch, crew_in_process(monkeypatch) as crew:
        crew.learner.load(config, str(tmp_path / "model"))
        context = SimpleNamespace(config=config, task=task, tokenizer=tokenizer, crew=crew)
        splitter = splitter_of(config, task, tokenizer)
        yield SimpleNamespace(
            context=context, group=group, model=made.eval(), splitter=splitter, path=str(tmp_path / "model")
        )


def test_supports_of_text_are_those_of_its_own_beginnings(told: Any) -> None:
    """Though tokens hold more than a character, a step ends inside of none, and an earlier box is not the answer."""
    example, decode = told.group.example, told.context.tokenizer.decode
    responses = [(example, sample) for sample in told.group.samples]
    found = [one.supports for one in supports_of(told.context, responses, told.splitter)]
    expected = [
        by_hand(told.model, example.prompt_ids, sample.response_ids, decode, parts)
        for parts, sample in zip(SAID[:3], told.group.samples[:3], strict=True)
    ]
    assert found == [*(pytest.approx(own, abs=2e-5) for own in expected), []]
    assert [len(own) for own in expected] == [4, 3, 2]
    assert min(abs(a - b) for own in expected for a, b in itertools.pairwise(own)) > 1e-3, "steps matter"


def test_gains_and_weights_are_the_same_however_the_batch_is_cut(told: Any) -> None:
    """By the learner's micro-batches: of one row, of three, and all at once; by how the responses are ordered, too."""
    context, group = told.context, told.group
    found = []
    for rows in (1, 3, 100):
        config = load([*WORDS, f"learner.micro_batch_rows={rows}"])
        context.crew.learner.load(config, told.path)
        cut = SimpleNamespace(**{**vars(context), "config": config})
        for order in (group.samples, group.samples[::-1]):
            groups = [Group(group.example, list(order))]
            feedback(cut, groups, 1, told.splitter)
            made, _ = hybrid(cut, [], groups, 1)
            assert made is not None and list(made.sample_weights or ()) == [sample.weight for sample in order]
            found.append(([s.gain for s in group.samples], [s.weight for s in group.samples], made.trace_weight))
    gains, weights, of_traces = found[0]
    assert gains[3] is None and weights[3] == 0 and any(weights), "the comparison has something to compare"
    for other, weighed, traces in found[1:]:
        assert other == [*(pytest.approx(gain, abs=1e-4) for gain in gains[:3]), None]
        assert weighed == pytest.approx(weights, abs=1e-4) and traces == pytest.approx(of_traces, abs=1e-4)
    supports = supports_of(context, [(group.example, sample) for sample in group.samples], told.splitter)
    assert gains[:3] == [pytest.approx(progressive_gain(one.supports), abs=1e-4) for one in supports[:3]]
