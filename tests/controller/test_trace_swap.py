"""Decisions after the trace of an opposite example, with the plain engine in this process.

The oracle is a forward pass of transformers over the question's own prompt and the foreign trace. Models are made by
hand: some copy what the trace says, surely or with a calibrated probability, and one reads the question alone.
Not covered: vLLM, and the command itself (e2e/test_commands)."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch

from carerl.actors.crew import EvaluationCrew
from carerl.actors.handles.engines import Engines
from carerl.actors.handles.graders import Graders
from carerl.actors.workers.engine import EngineWorker
from carerl.actors.workers.grader import GraderWorker
from carerl.backends.models import load_model, make_base_bytes, save_model
from carerl.calibration import share_interval
from carerl.config.evaluate import evaluation_config
from carerl.config.schema import RunConfig, ShapeConfig
from carerl.controller import trace_swap
from carerl.controller.decisions import answer_probabilities
from carerl.controller.evaluation import chosen, evaluate, sample
from carerl.controller.trace_swap import Swap, pairs, swap_metrics, swap_traces
from carerl.runs.samples import SampleStore
from carerl.tasks import TASKS, TextTask
from carerl.tasks.byte_tokenizer import VOCAB_SIZE, make_byte_tokenizer
from carerl.types import Decision, Example, Group, Sample
from tests.actors.local import Local, without_ray
from tests.metrics.declared import undeclared

LETTERS = [chr(ord("A") + k) for k in range(26)]
TOKENIZER = make_byte_tokenizer()
MARKS = {"A": "So ({}", "B": r"So \boxed{{{}", "C": "So [{}"}  # by label, another byte before each
ENDS = {"A": ").", "B": "}", "C": "]."}


def settings(model: str, place: Path, options: list[int], *words: str) -> RunConfig:
    """Questions with so many options each, in one suite; ``place``: a folder."""
    rows = [
        {"id": f"q{k}", "question": f"Letter {k}?", "answer": "A", "choices": [f"the {ord(x)}th" for x in LETTERS[:n]]}
        for k, n in enumerate(options)
    ]
    (place / "letters.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return evaluation_config(
        [f"model={model}", f"benchmarks=[{place / 'letters.jsonl'}]", "engine=hf", "samples=24", "max_new_tokens=1",
         "task.prompt_template='{question}'", "rollout.max_batch_rows=24", "evaluation.temperature=1.5",
         "trace_swap=true", *words]
    )  # fmt: skip


def crew_of(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> EvaluationCrew:
    without_ray(monkeypatch)
    engines = Engines([Local(EngineWorker()), Local(EngineWorker())])
    made = EvaluationCrew(engines=engines, graders=Graders([Local(GraderWorker())]), actors=[])
    made.load(config, config.model.path)
    made.engines.use_loaded()
    return made


def task_of(config: RunConfig) -> TextTask:
    task = TextTask(config.task, config.seed)  # type: ignore[arg-type]
    task.attach(TOKENIZER)
    return task


def said(task: TextTask, texts: dict[str, list[str]]) -> list[Group]:
    """Graded responses by the question's id, in the order of the suite."""
    groups = []
    for example in task.suites()[0].examples:
        samples = []
        for text in texts[example.id]:
            ids = tuple(TOKENIZER.encode(text))
            outcome, answer = task.grade(example, ids, False)
            samples.append(Sample(example.id, ids, (-0.1,) * len(ids), False, (0, 0), outcome, answer))
        groups.append(Group(example, samples))
    return groups


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("bytes")
    make_base_bytes(place, 3, ShapeConfig(vocab_size=VOCAB_SIZE, context_length=512))
    return str(place)


def swap_of(swaps: list[Swap | None]) -> list[Swap]:
    return [swap for swap in swaps if swap is not None]


def test_it_is_the_models_own_distribution_after_the_foreign_trace(
    random_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(random_model, tmp_path, [26, 26, 5, 3])
    task, crew = task_of(config), crew_of(config, monkeypatch)
    groups = said(
        task,
        {
            "q0": [r"No, not A. \boxed{C}", "The answer is (B).", "no idea"],
            "q1": [r"\boxed{b}", "The answer is (Z).", "the 66th"],
            "q2": ["It is e, so (E)", r"\boxed{A}", r"\boxed{A or B}"],
            "q3": ["[C]", r"\boxed{a}", "?"],
        },
    )
    list(answer_probabilities(crew.engines, task, dict(enumerate(groups))))
    decided = [(g.example, s) for g in groups for s in g.samples if s.decision is not None]
    paired = zip(decided, pairs(task, "letters", groups, config.evaluation.seed), strict=True)
    swaps = [(*of, swap) for of, swap in paired if swap is not None]
    assert len(decided) == 8 and 6 <= len(swaps) <= 8
    monkeypatch.setattr(trace_swap, "AT_A_TIME", 3)
    found = swap_traces(crew.engines, config, task, "letters", groups, lambda: True)
    model = load_model(random_model, "float32")
    flips, followed, probabilities = [], [], []
    for example, own, swap in swaps:
        foreign = TOKENIZER.decode(list(swap.other.response_ids))
        n = len(example.meta["gold"].choices)
        said_there = next(c for c in (r"\boxed{", "so (", "is (", "[") if c in foreign)
        before = foreign[: foreign.index(said_there) + len(said_there)]
        letter = foreign[len(before)]
        labels = LETTERS[:n] if letter.isupper() else [x.lower() for x in LETTERS[:n]]
        with torch.no_grad():
            prefix = torch.tensor([[*example.prompt_ids, *TOKENIZER.encode(before)]])
            logits = model(prefix).logits[0, -1].double()
        over = logits[[TOKENIZER.encode(x)[0] for x in labels]].softmax(0)
        first = LETTERS[int(over.argmax())]
        flips.append(first != own.likeliest)
        followed.append(first == swap.other.likeliest != own.likeliest)
        probabilities.append(float(over.max()))
    assert found["eval/letters/swap_flips"].value == pytest.approx(sum(flips) / len(swaps))
    assert found["eval/letters/swap_followed"].value == pytest.approx(sum(followed) / len(swaps))
    assert found["eval/letters/swap_probability"].value == pytest.approx(mean(probabilities), rel=1e-5)
    assert found["eval/letters/swap_unpaired"].value == 8 - len(swaps) and len(found) == 4
    assert len({round(p, 6) for p in probabilities}) > 4, "not a constant"
    assert undeclared(found) == []


def decided_groups(task: TextTask, labels: dict[str, str]) -> list[Group]:
    """Responses that decide for these labels by question's id, each in a marking of its own; all options are equally
    likely but the one that was named."""
    texts = {
        key: [MARKS.get(x, r"So \boxed{{{}").format(x) + ENDS.get(x, "}") for x in of] for key, of in labels.items()
    }
    groups = said(task, texts)
    for group in groups:
        for one in group.samples:
            one.decision = task.decision(group.example, one)
            assert one.decision is not None and one.decision.chosen == one.answer
            size = len(one.decision.token_ids)
            one.option_probs = tuple(2 / (size + 1) if x == one.answer else 1 / (size + 1) for x in LETTERS[:size])
    return groups


def test_a_pair_is_another_question_with_another_decision_among_this_ones_options(
    random_model: str, tmp_path: Path
) -> None:
    """Prompt and options stay the question's own, however many the other has."""
    config = settings(random_model, tmp_path, [2, 3, 5, 5, 26])
    task = task_of(config)
    labels = {"q0": "AB", "q1": "ABC", "q2": "ABDE", "q3": "EEAC", "q4": "AEZB"}
    groups = decided_groups(task, labels)
    seen = Counter()
    for seed in range(300):
        swaps = pairs(task, "letters", groups, seed)
        decided = [(group, one) for group in groups for one in group.samples]
        for (group, one), swap in zip(decided, swaps, strict=True):
            assert swap is not None and one.decision is not None and swap.other.decision is not None
            options = LETTERS[: len(group.example.meta["gold"].choices)]
            assert swap.other.example_id != group.example.id
            assert swap.foreign == swap.other.answer != one.answer and swap.foreign in options
            query = swap.query
            assert query.prefix_ids[: len(group.example.prompt_ids)] == group.example.prompt_ids
            rest = query.prefix_ids[len(group.example.prompt_ids) :]
            assert rest == swap.other.response_ids[: swap.other.decision.position] and len(rest) > 0
            assert TOKENIZER.decode(list(query.token_ids)) == "".join(options), "this question's, in their order"
            seen[group.example.id, one.answer, swap.other.example_id, swap.foreign] += 1
    of_a2 = {key: count for key, count in seen.items() if key[:2] == ("q0", "A")}
    # q0 has A and B: for its A, the B of q1, q2 and q4, each as often
    assert {key[2:] for key in of_a2} == {("q1", "B"), ("q2", "B"), ("q4", "B")}
    assert all(abs(count - 100) < 5 * math.sqrt(300 * 2 / 9) for count in of_a2.values())
    assert ("q2", "A", "q4", "Z") not in seen and ("q4", "A", "q2", "E") in seen


def test_what_has_no_opposite_example_is_counted(
    random_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(random_model, tmp_path, [2, 5, 5])
    task, crew = task_of(config), crew_of(config, monkeypatch)
    groups = decided_groups(task, {"q0": "AA", "q1": "AED", "q2": "EE"})
    swaps = pairs(task, "letters", groups, 0)
    order = [group.example.id for group in groups for _ in group.samples]
    assert [key for key, swap in zip(order, swaps, strict=True) if swap is None] == ["q0", "q0"], "q0 has no D or E"
    assert {swap.other.answer for key, swap in zip(order, swaps, strict=True) if swap and key == "q2"} <= {"A", "D"}
    found = swap_traces(crew.engines, config, task, "letters", groups, lambda: True)
    assert found["eval/letters/swap_unpaired"].value == 2
    alone = swap_traces(
        crew.engines, config, task, "letters", [g for g in groups if g.example.id == "q2"], lambda: True
    )
    assert {name: estimate.value for name, estimate in alone.items()} == {"eval/letters/swap_unpaired": 2}
    undecided = [Group(g.example, [Sample(g.example.id, (1,), (0.0,), True, (0, 0))]) for g in groups]
    assert swap_traces(crew.engines, config, task, "letters", undecided, lambda: True) == {}


def test_pairs_depend_on_seed_suite_question_and_sample_alone(random_model: str, tmp_path: Path) -> None:
    config = settings(random_model, tmp_path, [5] * 6)
    task = task_of(config)
    groups = decided_groups(task, {f"q{k}": "ABCDE" for k in range(6)})
    again = decided_groups(task_of(config), {f"q{k}": "ABCDE" for k in range(6)})
    first = pairs(task, "letters", groups, 1)
    assert pairs(task, "letters", again, 1) == first
    for other in (pairs(task, "letters", groups, 2), pairs(task, "others", groups, 1)):
        assert sum(a == b for a, b in zip(other, first, strict=True)) < 10, "some are the same by chance, 1 in 20"
    for group in groups:
        group.samples = group.samples[:1] * 5
    drawn = pairs(task, "letters", [*groups[:5], Group(groups[5].example, again[5].samples)], 1)
    for k in range(5):
        assert len({swap.other.answer for swap in swap_of(drawn[5 * k : 5 * k + 5])}) > 1, "samples draw apart"


QUESTIONS = {"0": 1, "1": 2, "2": 3, "3": 1}  # the one byte in which the prompts differ, and its direction


def bare_model(
    place: Path, embedded: dict[str, int], named: dict[str, int], gain: float = 0.5, attends: bool = False
) -> tuple[str, int]:
    """Writes a model whose next token depends on the last byte alone: attention and MLPs add nothing; returns its
    directory and its width. ``embedded``: the direction of a byte, 0 for others; ``named``: the direction that makes a
    byte likely, by byte, and ``gain`` how much. ``attends``: attention adds the mean direction of all bytes."""
    shape = ShapeConfig(vocab_size=VOCAB_SIZE, context_length=512, tie_embeddings=False)
    make_base_bytes(place / "drawn", 3, shape)
    model = load_model(str(place / "drawn"), "float32")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.fill_(1)
            elif "up_proj" not in name and "gate_proj" not in name:
                weight.zero_()
            if attends and ("v_proj" in name or "o_proj" in name):  # queries of 0: every byte weighs the same
                for direction in (1, 2, 3):
                    weight[direction, direction] = 10
        model.get_input_embeddings().weight[:, 0] = 1
        for byte, direction in embedded.items():
            row = model.get_input_embeddings().weight[TOKENIZER.encode(byte)[0]]
            row.zero_()
            row[direction] = 1
        for byte, direction in named.items():
            model.get_output_embeddings().weight[TOKENIZER.encode(byte)[0], direction] = gain
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    save_model(place, model.config, weights, TOKENIZER)
    return str(place), model.config.hidden_size


COPIES = {"(": 1, "{": 2, "[": 3}  # so (A), \boxed{B}, [C], as in MARKS
NAMED = {"A": 1, "B": 2, "C": 3}


def swapped(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch, texts: dict[str, list[str]]
) -> tuple[Any, list[Sample]]:
    """The figures of swaps by their last names, and the samples as the model weighs them."""
    task, crew = task_of(config), crew_of(config, monkeypatch)
    groups = said(task, texts)
    list(answer_probabilities(crew.engines, task, dict(enumerate(groups))))
    found = swap_traces(crew.engines, config, task, "letters", groups, lambda: True)
    figures = {name.rpartition("/")[2]: estimate.value for name, estimate in found.items()}
    return figures, [one for group in groups for one in group.samples]


def marked(trace: str, label: str) -> str:
    """A response whose trace is that of label ``trace``, and which decides for ``label``."""
    return MARKS[trace].format(label) + ENDS[trace]


def test_a_model_that_copies_the_trace_always_flips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, width = bare_model(tmp_path / "model", COPIES, NAMED)
    labels = {"q0": "ABCA", "q1": "CB", "q2": "BBB", "q3": "AC"}
    texts = {key: [marked(x, x) for x in of] for key, of in labels.items()}
    found, samples = swapped(settings(model, tmp_path, [3, 3, 3, 3]), monkeypatch, texts)
    assert all(one.likeliest == one.answer for one in samples)
    assert (found["swap_flips"], found["swap_followed"], found["swap_unpaired"]) == (1, 1, 0)
    sure = math.exp(0.5 * math.sqrt(width))  # the last norm makes sqrt(D) of the one direction that there is
    assert found["swap_probability"] == pytest.approx(sure / (sure + 2), rel=1e-4)


def test_a_calibrated_model_that_copies_the_trace_always_flips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two options, .75 for the one that the trace says. One decision in four is sampled against its trace: what was
    sampled says nothing of what a trace concludes."""
    width = ShapeConfig().hidden_size
    model, _ = bare_model(tmp_path / "model", COPIES, NAMED, math.log(3) / math.sqrt(width))
    of_a, of_b = [marked("A", x) for x in "AAAB"], [marked("B", x) for x in "BBBA"]
    texts = {"q0": of_a, "q1": of_b, "q2": [*of_a, *of_b], "q3": [of_a[3], of_b[3]]}
    found, samples = swapped(settings(model, tmp_path, [2, 2, 2, 2]), monkeypatch, texts)
    assert {round(one.answer_prob or 0, 4) for one in samples} == {0.75, 0.25}
    assert sum(one.likeliest != one.answer for one in samples) == 6
    assert (found["swap_flips"], found["swap_followed"], found["swap_unpaired"]) == (1, 1, 0)
    assert found["swap_probability"] == pytest.approx(0.75, rel=1e-4)


def test_a_model_that_reads_the_question_alone_never_flips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the traces say: A in questions 0 and 3, B in 1, C in 2."""
    model, _ = bare_model(tmp_path / "model", QUESTIONS, NAMED, attends=True)
    texts = {f"q{k}": [marked(x, x) for x in "ABC"] for k in range(4)}
    found, samples = swapped(settings(model, tmp_path, [3, 3, 3, 3]), monkeypatch, texts)
    likeliest = {(one.example_id, one.likeliest) for one in samples}
    assert likeliest == {("q0", "A"), ("q1", "B"), ("q2", "C"), ("q3", "A")}
    assert (found["swap_flips"], found["swap_followed"], found["swap_unpaired"]) == (0, 0, 0)
    assert found["swap_probability"] > 0.5


def test_who_was_not_weighed_is_no_opposite_example(random_model: str, tmp_path: Path) -> None:
    task = task_of(settings(random_model, tmp_path, [2, 2, 2]))
    groups = decided_groups(task, {"q0": "A", "q1": "B", "q2": "B"})
    groups[1].samples[0].option_probs = None
    for seed in range(20):
        first, third = pairs(task, "letters", groups, seed)
        assert first is not None and first.other.example_id == "q2"
        assert third is not None and third.other.example_id == "q0"


def test_shares_and_their_intervals_are_over_questions() -> None:
    """By hand: three options at log-probs that give .8, .1, .1, or equal ones. Two questions of two samples each."""
    sure, equal = (math.log(0.8), math.log(0.1), math.log(0.1)), (-1.0, -1.0, -1.0)
    options = {"A": 65, "B": 66, "C": 67}
    first, second = Example("q1", (1,), "A"), Example("q2", (1,), "A")
    other = Sample("q3", (2,), (0.0,), False, (0, 0), decision=Decision(0, "A", options))
    swaps = [
        Swap(first, "A", other, "B", options),  # stays A: no flip, not followed
        Swap(first, "B", other, "A", options),  # becomes A: a flip, followed
        Swap(second, "B", other, "C", options),  # becomes A: a flip, not followed
        Swap(second, "C", other, "A", options),  # equal: the first, A
    ]
    found = swap_metrics(swaps, [sure, sure, sure, equal], 3)
    assert found["swap_flips"] == share_interval([0, 1, 1, 1], ["q1", "q1", "q2", "q2"])
    assert found["swap_followed"] == share_interval([0, 1, 0, 1], ["q1", "q1", "q2", "q2"])
    assert found["swap_flips"] != share_interval([0, 1, 1, 1]), "samples of a question are not independent"
    assert found["swap_flips"].value == 3 / 4 and found["swap_followed"].value == 2 / 4
    assert found["swap_probability"].value == pytest.approx((0.8 * 3 + 1 / 3) / 4)
    assert found["swap_probability"].low < 0.8 < found["swap_probability"].high
    assert found["swap_unpaired"].value == 3


def test_a_task_without_spellings_has_the_labels_that_both_decisions_have() -> None:
    tiny: Any = TASKS["tiny"].build(TASKS["tiny"].config(), 0)

    def group(key: str, chosen: str, tokens: dict[str, int], probs: tuple[float, ...]) -> Group:
        one = Sample(key, (1, 2, 3), (-0.1,) * 3, False, (0, 0), answer=chosen)
        one.decision, one.option_probs = Decision(1, chosen, tokens), probs
        return Group(Example(key, (7, 8), "A"), [one])

    groups = [
        group("three", "A", {"A": 10, "B": 11, "C": 12}, (0.5, 0.3, 0.2)),
        group("two", "B", {"B": 21, "A": 20}, (0.9, 0.1)),
        group("likes_c", "A", {"A": 10, "B": 11, "C": 12}, (0.2, 0.2, 0.6)),
    ]
    three, two = pairs(tiny, "s", groups[:2], 0)
    assert three is not None and three.token_ids == {"A": 20, "B": 21}, "the tokens of the foreign response"
    assert three.query.prefix_ids == (7, 8, 1) and three.query.token_ids == (20, 21)
    assert two is not None and two.token_ids == {"B": 11, "A": 10} and two.foreign == "A"
    drawn = [pairs(tiny, "s", groups, seed)[2] for seed in range(20)]
    assert {swap.other.example_id for swap in swap_of(drawn)} == {"three"}, "without C nothing could be no flip"


def test_an_evaluation_reports_swaps_and_one_that_is_resumed_reports_the_same(
    random_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(random_model, tmp_path, [26, 26, 5])
    assert config.evaluation.trace_swap, "the short name is read"
    task, crew = task_of(config), crew_of(config, monkeypatch)
    (suite,) = chosen(config, task, 0)
    store = SampleStore(tmp_path, 0, TOKENIZER.decode)
    groups = sample(crew, config, task, suite, store)
    store.write_part()
    swapped = swap_traces(crew.engines, config, task, suite.name, groups, lambda: True)
    plain = evaluate(task, [suite], {suite.name: groups})
    scored = evaluate(task, [suite], {suite.name: groups}, swapped)
    decided = sum(one.decision is not None for group in groups for one in group.samples)
    assert decided > 5 and not [name for name in plain.metrics if "swap" in name]
    assert {n for n in scored.metrics if n not in plain.metrics} == set(swapped) and len(swapped) == 4
    assert scored.metrics["eval/letters/swap_flips"] == swapped["eval/letters/swap_flips"].value
    low, high = scored.intervals["eval/letters/swap_flips"]
    assert low <= scored.metrics["eval/letters/swap_flips"] <= high
    assert "eval/letters/swap_unpaired" not in scored.intervals

    again = sample(crew, config, task, suite, SampleStore(tmp_path, 0, TOKENIZER.decode))
    assert again == groups, "with their decisions"
    assert swap_traces(crew.engines, config, task, suite.name, again, lambda: True) == swapped
    config.evaluation.trace_swap = False
    assert swap_traces(crew.engines, config, task, suite.name, again, lambda: True) == {}


def test_a_stop_is_seen_after_each_part(random_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(random_model, tmp_path, [3, 3, 3])
    task, crew = task_of(config), crew_of(config, monkeypatch)
    groups = decided_groups(task, {"q0": "ABC", "q1": "ABC", "q2": "ABC"})
    monkeypatch.setattr(trace_swap, "AT_A_TIME", 2)
    told: list[int] = []

    def go_on() -> bool:
        told.append(1)
        return len(told) < 2

    assert swap_traces(crew.engines, config, task, "letters", groups, go_on) == {} and len(told) == 2
