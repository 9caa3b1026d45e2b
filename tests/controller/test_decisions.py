"""``answer_prob`` of an evaluation's samples, and rewards for the likeliest option, with the plain engine and real
workers in this process.

The oracle is a forward pass of transformers over prompt and response up to the decision, and a softmax over the
options' logits. Not covered: vLLM (backends/test_engines has its log-probs), which token decides
(tasks/test_decision)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from carerl.actors.crew import EvaluationCrew
from carerl.actors.handles.engines import Engines
from carerl.actors.handles.graders import Graders
from carerl.actors.workers.engine import EngineWorker, StaleWeights
from carerl.actors.workers.grader import GraderWorker
from carerl.backends.engines.base import Query
from carerl.backends.models import load_model, make_base_bytes
from carerl.config.evaluate import evaluation_config
from carerl.config.schema import RunConfig, ShapeConfig
from carerl.controller import decisions
from carerl.controller.decisions import answer_probabilities
from carerl.controller.evaluation import chosen, sample
from carerl.decisions import DecisionConfig
from carerl.grading import Verdict
from carerl.grading.pool import Graded, Job
from carerl.loss.batching import informative
from carerl.rewards import REWARDS
from carerl.runs.samples import SampleStore, read_samples
from carerl.tasks import TASKS
from carerl.tasks.byte_tokenizer import VOCAB_SIZE, make_byte_tokenizer
from carerl.types import Group, Outcome, Sample
from tests.actors.local import Local, without_ray

LETTERS = [chr(ord("A") + k) for k in range(26)]


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("bytes")
    make_base_bytes(place, 3, ShapeConfig(vocab_size=VOCAB_SIZE, context_length=512))
    return str(place)


@pytest.fixture(scope="module")
def config(model_dir: str, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """Questions of 26 options, so that one response of one byte in five names an option."""
    place = tmp_path_factory.mktemp("data") / "letters.jsonl"
    rows = [
        {
            "id": f"q{k}",
            "question": f"Letter {k}?",
            "answer": LETTERS[k],
            "choices": [f"the {ord(x)}th" for x in LETTERS],
        }
        for k in range(5)
    ]
    place.write_text("\n".join(map(json.dumps, rows)))
    return evaluation_config(
        [f"model={model_dir}", f"benchmarks=[{place}]", "engine=hf", "samples=24", "max_new_tokens=1",
         "task.prompt_template='{question}'", "rollout.max_batch_rows=24", "evaluation.temperature=1.5"]
    )  # fmt: skip


@pytest.fixture
def crew(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> EvaluationCrew:
    without_ray(monkeypatch)
    made = EvaluationCrew(
        engines=Engines([Local(EngineWorker()), Local(EngineWorker())]),
        graders=Graders([Local(GraderWorker())]),
        actors=[],
    )
    made.load(config, config.model.path)
    made.engines.use_loaded()
    return made


def make_task(config: RunConfig) -> Any:
    task = TASKS[config.task.name].build(config.task, config.seed)
    task.attach(make_byte_tokenizer())
    return task


def expected(model: Any, prompt: tuple[int, ...], before: tuple[int, ...], label: str, labels: list[str]) -> float:
    """softmax over the options' logits, in float64."""
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *before]])).logits[0, -1].double()
    tokenizer = make_byte_tokenizer()
    ids = [tokenizer.encode(x)[0] for x in labels]
    return float(logits[ids].softmax(0)[labels.index(label)])


def test_it_is_the_models_softmax_over_the_options_where_one_was_named(
    crew: EvaluationCrew, config: RunConfig, model_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At temperature 1, whatever the samples were drawn at. In parts of two questions, over two engines."""
    monkeypatch.setattr(decisions, "AT_A_TIME", 2)
    task, tokenizer = make_task(config), make_byte_tokenizer()
    responses = [
        r"Not B. \boxed{C} is it",
        "The answer is (A).",
        r"\boxed{b}",
        "the 66th",
        "no idea",
        r"\boxed{A or B}",
    ]
    labelled = {0: ("C", r"Not B. \boxed{"), 1: ("A", "The answer is ("), 2: ("b", r"\boxed{")}
    groups = {}
    for number, example in enumerate(task.suites()[0].examples):
        samples = []
        for text in responses:
            ids = tuple(tokenizer.encode(text))
            outcome, answer = task.grade(example, ids, False)
            samples.append(Sample(example.id, ids, (-0.1,) * len(ids), False, (0, 0), outcome, answer))
        groups[number] = Group(example, samples)
    parts = list(answer_probabilities(crew.engines, task, groups))
    assert [sorted(part) for part in parts] == [[0, 1], [2, 3], [4]]
    model = load_model(model_dir, "float32")
    for group in groups.values():
        for k, found in enumerate(group.samples):
            if k not in labelled:
                assert found.answer_prob is None, "named by its text, no answer, two answers"
                continue
            label, before = labelled[k]
            labels = LETTERS if label.isupper() else [x.lower() for x in LETTERS]
            wanted = expected(model, group.example.prompt_ids, tuple(tokenizer.encode(before)), label, labels)
            assert found.answer_prob == pytest.approx(wanted, rel=1e-5)
    assert len({round(s.answer_prob or 0, 6) for g in groups.values() for s in g.samples}) > 10, "not a constant"
    assert list(answer_probabilities(crew.engines, task, groups)) == [], "what is known is not asked again"


def test_an_evaluation_asks_keeps_and_reports_them(
    crew: EvaluationCrew, config: RunConfig, model_dir: str, tmp_path: Path
) -> None:
    task = make_task(config)
    (suite,) = chosen(config, task, 0)
    store = SampleStore(tmp_path, 0, str)
    groups = sample(crew, config, task, suite, store)
    store.close()
    flat = [(group, found) for group in groups for found in group.samples]
    named = [(group, found) for group, found in flat if found.answer is not None]
    assert 10 < len(named) < len(flat)
    model = load_model(model_dir, "float32")
    text = make_byte_tokenizer().decode
    for group, found in named:
        letter = text(list(found.response_ids))
        labels = LETTERS if letter.isupper() else [x.lower() for x in LETTERS]
        wanted = expected(model, group.example.prompt_ids, (), letter, labels)
        assert found.answer_prob == pytest.approx(wanted, rel=1e-5)
    assert all((found.answer_prob is None) == (found.answer is None) for _, found in flat)
    rows = read_samples(tmp_path, 0)
    assert [row["answer_prob"] for row in rows] == [found.answer_prob for _, found in flat]
    metrics = task.evaluate({suite.name: groups}).metrics
    confidence = [found.answer_prob or 0.0 for _, found in flat]
    brier = sum((p - found.correct) ** 2 for p, (_, found) in zip(confidence, flat, strict=True)) / len(flat)
    assert metrics["calibration/letters/answer_prob_brier"] == pytest.approx(brier)
    assert metrics["eval/letters/undecided"] == 0


def test_an_evaluation_stopped_while_it_asks_goes_on_with_the_rest(
    crew: EvaluationCrew, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "AT_A_TIME", 2)
    task = make_task(config)
    (suite,) = chosen(config, task, 0)
    whole = sample(crew, config, task, suite, SampleStore(tmp_path / "whole", 0, str))
    store = SampleStore(tmp_path / "stopped", 0, str)
    after = iter([True] * 1 + [False])  # one part is asked for, and then it stops

    def progress(ended: list[Group]) -> bool:
        return bool(ended) or next(after)

    first = sample(crew, config, task, suite, store, progress)
    store.write_part()
    assert [group.samples for group in first] != [group.samples for group in whole]
    again = sample(crew, config, task, suite, SampleStore(tmp_path / "stopped", 0, str))
    assert again == whole
    final = SampleStore(tmp_path / "stopped", 0, str)
    final.add(suite.name, dict(enumerate(again)))
    final.close()
    rows = read_samples(tmp_path / "stopped", 0)
    assert len(rows) == 5 * 24, "a group that is added again takes the place of the first"
    assert [row["answer_prob"] for row in rows] == [found.answer_prob for group in whole for found in group.samples]


def test_pitfall_14_engines_are_asked_under_the_version_that_they_hold(crew: EvaluationCrew) -> None:
    assert len(crew.engines.next_logprobs([Query((5, 6), (7, 8))])[0]) == 2
    crew.engines.version = 3
    with pytest.raises(StaleWeights, match="asked for 3"):
        crew.engines.next_logprobs([Query((5, 6), (7, 8))])


def test_a_task_without_options_asks_nothing(config: RunConfig) -> None:
    task = make_task(config)
    example = task.suites()[0].examples[0]
    open_ended = replace(example, meta={**example.meta, "gold": replace(example.meta["gold"], choices=())})
    asked: list[Query] = []

    class Silent:
        def next_logprobs(self, queries: list[Query]) -> list[tuple[float, ...]]:
            asked.extend(queries)
            return []

    answered = Sample("q0", (70,), (-1.0,), False, (0, 0), answer="A")
    engines: Any = Silent()
    assert list(answer_probabilities(engines, task, {0: Group(open_ended, [answered])})) == [] and asked == []
    tiny: Any = TASKS["tiny"].build(TASKS["tiny"].config(), 0)
    assert list(answer_probabilities(engines, tiny, {0: Group(example, [answered])})) == []


class NotHere(dict[str, Any]):
    """No grader in this process."""

    def __getitem__(self, name: str) -> Any:
        raise AssertionError(f"{name} grades in the driver, which has no limits")


def test_what_decides_is_found_by_graders_that_can_be_ended(
    crew: EvaluationCrew, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a response does to its grader it does in a process of the pool; by a pool of its own where none is
    given."""
    task, tokenizer = make_task(config), make_byte_tokenizer()
    example = task.suites()[0].examples[0]

    def answered() -> dict[int, Group]:
        ids = tuple(tokenizer.encode(r"The answer is \boxed{C}"))
        return {0: Group(example, [Sample(example.id, ids, (-0.1,) * len(ids), False, (0, 0), answer="C")])}

    from carerl.tasks import text

    monkeypatch.setattr(text, "GRADERS", NotHere())
    found = []
    for grade in (crew.graders.verdicts, None):
        groups = answered()
        assert len(list(answer_probabilities(crew.engines, task, groups, grade))) == 1
        found.append(groups[0].samples[0].answer_prob)
    assert found[0] is not None and found[0] == found[1]


def test_a_rehearsal_weighs_and_rewards_tossed_decisions(crew: EvaluationCrew, config: RunConfig) -> None:
    """Drawn weights name no option. What was found stays, and every other response gets a place of its own."""
    task, tokenizer = make_task(config), make_byte_tokenizer()
    example = task.suites()[0].examples[0]

    def groups() -> list[Group]:
        made = []
        for text in ("no idea at all", r"\boxed{C}"):
            ids = tuple(tokenizer.encode(text))
            outcome, answer = task.grade(example, ids, False)
            made.append(Sample(example.id, ids, (-0.1,) * len(ids), False, (0, 0), outcome, answer))
        return [Group(example, made)]

    real, tossed = groups(), groups()
    settings = DecisionConfig(name="ce", reward="argmax")
    decisions.decide(crew, task, real, settings)
    decisions.decide(crew, task, tossed, settings, 7)
    (_, named), (unnamed, same) = real[0].samples, tossed[0].samples
    assert real[0].samples[0].decision is None and same.decision == named.decision is not None
    assert unnamed.decision is not None and unnamed.decision.right == named.decision.right
    place = unnamed.decision.position
    assert unnamed.decision.token_ids[unnamed.decision.chosen] == unnamed.response_ids[place]
    assert unnamed.option_probs is not None and sum(unnamed.option_probs) == pytest.approx(1.0)
    assert unnamed.argmax_outcome is not None, "the likeliest option is judged"
    again = {0: groups()[0]}
    assert list(answer_probabilities(crew.engines, task, again, crew.graders.verdicts, 7)) == [again]
    assert [s.decision for s in again[0].samples] == [s.decision for s in tossed[0].samples]


def test_a_variant_that_cannot_be_graded_decides_nothing(crew: EvaluationCrew, config: RunConfig) -> None:
    task, tokenizer = make_task(config), make_byte_tokenizer()
    example = task.suites()[0].examples[0]
    ids = tuple(tokenizer.encode(r"\boxed{C}"))
    pairs = [(example, Sample(example.id, ids, (-0.1,) * len(ids), False, (0, 0), answer="C"))]
    asked: list[Any] = []

    def out_of_time(jobs: list[Any]) -> list[Verdict]:
        asked.extend(jobs)
        return [Verdict(Outcome.INVALID, None, "time")] * len(jobs)

    assert decisions.find_decisions(task, pairs, out_of_time) == [None] and len(asked) == 1
    (found,) = decisions.find_decisions(task, pairs, crew.graders.verdicts)
    assert found == task.decision(*pairs[0]) and found is not None


RIGHT, WRONG, UNNAMED, SILENT = r"It is C. \boxed{C}", r"\boxed{A}", "the 67th", "no idea"  # the answer is C
OUTCOMES = {RIGHT: Outcome.CORRECT, WRONG: Outcome.WRONG, UNNAMED: Outcome.CORRECT, SILENT: Outcome.UNPARSED}
ANSWERS = {RIGHT: "C", WRONG: "A", UNNAMED: "C", SILENT: None}
# groups of responses and their likeliest options, the rewards that they get for these, and whether a group then teaches
REWARDED = [
    ([(RIGHT, "C"), (RIGHT, "B")], [1, 0], True),
    ([(RIGHT, "C"), (WRONG, "C")], [1, 1], False),
    ([(RIGHT, "B"), (WRONG, "C")], [0, 1], True),
    ([(WRONG, "B"), (WRONG, "A")], [0, 0], False),
    ([(WRONG, "C"), (UNNAMED, None)], [1, 1], False),
    ([(RIGHT, "A"), (SILENT, None)], [0, 0], False),
    ([(RIGHT, "C"), (WRONG, "A"), (UNNAMED, None), (SILENT, None)], [1, 0, 1, 0], True),  # nothing to judge again
]


@pytest.fixture
def rewarding(crew: EvaluationCrew, config: RunConfig) -> EvaluationCrew:
    crew.graders.load(replace(config, reward=REWARDS["correct"].config()), config.model.path)
    return crew


def graded(crew: EvaluationCrew, config: RunConfig) -> list[Group]:
    """The groups of ``REWARDED`` as they are once the engines were asked, of the question whose answer is C."""
    task, tokenizer = make_task(config), make_byte_tokenizer()
    (example,) = (e for e in task.suites()[0].examples if e.id == "q2")
    groups = []
    for said, _, _ in REWARDED:
        ids = [tuple(tokenizer.encode(text)) for text, _ in said]
        groups.append(Group(example, [Sample("q2", x, (-0.1,) * len(x), False, (0, 0)) for x in ids]))
    groups = crew.graders.grade(groups)
    pairs = [(group.example, one) for group in groups for one in group.samples]
    likeliest = [first for said, _, _ in REWARDED for _, first in said]
    found = decisions.find_decisions(task, pairs, crew.graders.verdicts)
    for (_, one), decision, first in zip(pairs, found, likeliest, strict=True):
        assert (decision is None) == (first is None)
        one.decision = decision
        one.option_probs = None if decision is None else tuple(0.5 if x == first else 0.02 for x in decision.token_ids)
        assert one.likeliest == first
    return groups


def test_the_reward_is_for_the_likeliest_option_and_the_outcome_stays(
    rewarding: EvaluationCrew, config: RunConfig
) -> None:
    groups = graded(rewarding, config)
    assert informative(groups).tolist() == [False, True, True, False, True, True, True]
    decisions._reward_likeliest(rewarding, groups)
    for group, (said, rewards, _) in zip(groups, REWARDED, strict=True):
        assert [one.reward for one in group.samples] == rewards
        assert [one.rewarded for one in group.samples] == [reward == 1 for reward in rewards]
        assert [one.outcome for one in group.samples] == [OUTCOMES[text] for text, _ in said]
        assert [one.answer for one in group.samples] == [ANSWERS[text] for text, _ in said]
    assert informative(groups).tolist() == [teaches for _, _, teaches in REWARDED]


def test_what_stays_as_it_is_keeps_its_outcome_when_it_is_judged_again(
    rewarding: EvaluationCrew, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grader may run out of time at a second try, and a response that ran out of it at the first may not then."""
    groups = graded(rewarding, config)
    ungraded = Sample("q2", groups[0].samples[0].response_ids, (-0.1,) * 19, False, (0, 0), Outcome.INVALID, reward=0.0)
    groups[0].samples.append(ungraded)
    decisions._reward_likeliest(rewarding, groups)
    assert ungraded.reward == 0 and not ungraded.rewarded and ungraded.argmax_outcome is Outcome.INVALID

    def out_of_time(pool: Any, jobs: list[Job]) -> list[Graded]:
        return [Graded(Verdict(Outcome.INVALID, None, "time"), None)] * len(jobs)

    groups = graded(rewarding, config)
    with monkeypatch.context() as patched:
        patched.setattr("carerl.grading.pool.GraderPool.grade_and_vote", out_of_time)
        decisions._reward_likeliest(rewarding, groups)
    found = [[one.reward for one in group.samples] for group in groups]
    assert found == [rewards for _, rewards, _ in REWARDED]
