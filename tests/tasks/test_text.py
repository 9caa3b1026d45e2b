r"""Tasks over text on hand-made files: order, prompts, grading, held-out questions, overlaps, what is refused.

The tokenizer is the byte-level one. Not covered: the hub (no network in tests); single data sets (test_benchmarks),
votes (test_votes), metrics (test_text_evaluation).
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from carerl.tasks import ASKS_CONFIDENCE, TASKS, TextConfig, TextTask
from carerl.tasks.base import VALIDATION
from carerl.tasks.benchmarks.config import CONFIDENCE, MathConfig
from carerl.tasks.benchmarks.math import BOXED
from carerl.tasks.benchmarks.multiple_choice import CHOICE
from carerl.tasks.byte_tokenizer import make_byte_tokenizer
from carerl.types import Outcome
from tests.tasks.shared_data import data_dir

TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def make_tokenizer(chat: bool = True) -> PreTrainedTokenizerFast:
    tokenizer = make_byte_tokenizer(chat)
    if chat:
        tokenizer.chat_template = TEMPLATE
    return tokenizer


def write(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def make_task(tmp_path: Path, seed: int = 1, chat: bool = True, **settings: Any) -> TextTask:
    train = write(tmp_path / "train.jsonl", [{"problem": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(7)])
    evaluation = write(
        tmp_path / "eval.jsonl",
        [
            {"id": "half", "question": "Half of one?", "answer": r"\frac12"},
            {"id": "both", "problem": "Roots of x^2 = 1?", "solution": r"They are \boxed{1} and \boxed{-1}.",
             "extra": {"full_answer": "1, -1"}},
            {"id": "either", "problem": "A root of x^2 = 1?", "answer": "1",
             "extra": {"accepted_answers": ["1", "-1"]}},
        ],
    )  # fmt: skip
    task = TextTask(TextConfig(**{"train": train, "benchmarks": [evaluation], **settings}), seed)
    task.attach(make_tokenizer(chat))
    return task


def test_pitfall_18_an_epoch_is_a_permutation_and_positions_follow_without_a_gap(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    parts = {start: task.train_examples(start, 3) for start in (18, 0, 15, 3, 6, 9, 12)}  # in any order
    sequence = [e for start in range(0, 21, 3) for e in parts[start]]  # 21 positions: three epochs of 7
    epochs = [[e.gold for e in sequence[i : i + 7]] for i in (0, 7, 14)]
    assert all(Counter(epoch) == Counter(str(i + 1) for i in range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert len({e.id for e in sequence}) == 21
    assert make_task(tmp_path).train_examples(5, 11) == sequence[5:16], "however it is cut"
    assert [e.gold for e in make_task(tmp_path, seed=2).train_examples(0, 7)] != epochs[0]


def test_prompt_goes_through_the_chat_template(tmp_path: Path) -> None:
    task = make_task(tmp_path, system_prompt="Be brief.", prompt_template="Q: {question} Answer in \\boxed{}.")
    example = next(e for e in task.suites()[0].examples if e.id == "half")
    text = make_tokenizer().decode(list(example.prompt_ids))
    assert text == "[system]Be brief.\n[user]Q: Half of one? Answer in \\boxed{}.\n[assistant]"


def test_prompt_without_a_chat_template_is_plain_text(tmp_path: Path) -> None:
    task = make_task(tmp_path, chat=False, system_prompt="Be brief.", prompt_template="{question}")
    example = next(e for e in task.suites()[0].examples if e.id == "half")
    assert make_tokenizer().decode(list(example.prompt_ids)) == "Be brief.\n\nHalf of one?\n"


def test_grading(tmp_path: Path) -> None:
    task, tokenizer = make_task(tmp_path), make_tokenizer()
    examples = {e.id: e for e in task.suites()[0].examples}

    def grade(name: str, text: str, truncated: bool = False) -> tuple[Outcome, str | None]:
        return task.grade(examples[name], tokenizer.encode(text), truncated)

    assert grade("half", r"It is \boxed{0.5}.<eos>") == (Outcome.CORRECT, "1/2")
    assert grade("half", r"It is \boxed{\dfrac{2}{4}}.<eos>") == (Outcome.CORRECT, "1/2")  # the same vote
    assert grade("half", r"\boxed{0.5}, no, \boxed{2}") == (Outcome.WRONG, "2")
    assert grade("half", "It is 0.5.") == (Outcome.UNPARSED, None)
    assert grade("half", "It is ", truncated=True) == (Outcome.TRUNCATED, None)
    assert grade("either", r"\boxed{-1}")[0] is Outcome.CORRECT
    assert grade("both", r"\boxed{-1}")[0] is Outcome.WRONG  # one part of the answer
    assert grade("both", r"\boxed{1,-1}")[0] is Outcome.CORRECT


def test_pitfall_15_the_prompt_earns_no_credit(tmp_path: Path) -> None:
    task = make_task(tmp_path, prompt_template="{question} For instance \\boxed{\\frac12}.")
    example = next(e for e in task.suites()[0].examples if e.id == "half")
    assert task.grade(example, make_tokenizer().encode("I do not know."), False) == (Outcome.UNPARSED, None)


def test_a_tokenizer_that_loses_text_is_refused() -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    broken = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({"<eos>": 0, "<unk>": 1}, unk_token="<unk>")), eos_token="<eos>"
    )
    with pytest.raises(ValueError, match="does not give back"):
        TextTask(MathConfig(), 0).attach(broken)


def test_a_plan_needs_no_data_and_no_tokenizer() -> None:
    for name, entry in TASKS.items():
        if name != "tiny":
            task = entry.build(entry.config(), 0)
            assert task.make_tokenizer() is None and task.needs_tokenizer


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt_template": "no place for it"}, "{question}"),
        ({"decontaminate": "of"}, "drop, refuse, off"),
        ({"benchmarks": ["math501"]}, "no data set 'math501'"),
        ({"benchmarks": ["math500", "gsm8k", "math500"]}, "suites of one name"),
        ({"benchmarks": ["a/same.jsonl", "b/same.jsonl"]}, "suites of one name"),
        ({"benchmarks": ["validation.jsonl"]}, "named validation"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextTask(TextConfig(**settings), 0)


def test_evaluation_questions_have_one_order_in_every_run_and_their_beginning_is_a_fair_subset(tmp_path: Path) -> None:
    rows = [{"question": f"Half of {i}?", "answer": str(i / 2), "id": f"q{i}"} for i in range(400)]
    path = write(tmp_path / "halves.jsonl", rows)
    orders = []
    for seed in (1, 2):
        task = make_task(tmp_path, seed=seed, benchmarks=[path])
        (suite,) = task.suites()
        orders.append([int(example.id[1:]) for example in suite.examples])
    assert orders[0] == orders[1] and sorted(orders[0]) == list(range(400)) and suite.name == "halves"
    # the mean of the first 100 of 400 numbers: 199.5 with a standard error of 10
    assert abs(sum(orders[0][:100]) / 100 - 199.5) < 40


def test_suites_are_the_benchmarks_in_order_and_the_first_is_primary(tmp_path: Path) -> None:
    one = write(tmp_path / "one.jsonl", [{"question": "1?", "answer": "1"}])
    two = write(tmp_path / "two.jsonl", [{"question": "2?", "answer": "2"}])
    task = make_task(tmp_path, benchmarks=[two, one], validation_questions=2)
    assert [(s.name, s.primary) for s in task.suites()] == [("two", True), ("one", False), (VALIDATION, False)]
    assert [(s.name, s.primary) for s in make_task(tmp_path, benchmarks=[], validation_questions=2).suites()] == [
        (VALIDATION, True)
    ]
    assert make_task(tmp_path, benchmarks=[]).suites() == []


def test_an_evaluation_reads_no_training_data(tmp_path: Path) -> None:
    task = make_task(tmp_path, train=str(tmp_path / "gone.jsonl"))
    assert len(task.suites()[0].examples) == 3
    with pytest.raises(ValueError, match=r"gone\.jsonl: no such file"):
        task.train_examples(0, 1)
    with pytest.raises(ValueError, match="nothing to train on"):
        make_task(tmp_path, train="").train_examples(0, 1)


MIXED: list[dict[str, object]] = [
    {"id": "open", "question": "1 + 1?", "answer": "2"},
    {"id": "closed", "question": "Even?", "answer": "B", "choices": ["3", "4"], "system": "Be quick."},
]


def prompts(tmp_path: Path, rows: list[dict[str, object]], **settings: Any) -> dict[str, str]:
    path = write(tmp_path / "mixed.jsonl", rows)
    (suite,) = make_task(tmp_path, benchmarks=[path], **settings).suites()
    return {e.id: make_tokenizer().decode(list(e.prompt_ids)) for e in suite.examples}


def test_the_prompt_is_that_of_the_data_set_unless_one_is_given(tmp_path: Path) -> None:
    own = prompts(tmp_path, MIXED)
    assert own["open"] == f"[user]{BOXED.replace('{question}', '1 + 1?')}\n[assistant]"
    shown = CHOICE.replace("{question}", "Even?\nA. 3\nB. 4")
    assert own["closed"] == f"[system]Be quick.\n[user]{shown}\n[assistant]"
    given = prompts(tmp_path, MIXED, prompt_template="<{question}>")
    assert given["closed"] == "[system]Be quick.\n[user]<Even?\nA. 3\nB. 4>\n[assistant]"


def test_a_rows_system_prompt_and_another_of_the_settings_are_refused_together(tmp_path: Path) -> None:
    """Either would have to be passed over in silence."""
    with pytest.raises(ValueError, match=r"closed: .* 'Be quick\.', and task\.system_prompt asks for another; leave"):
        prompts(tmp_path, MIXED, system_prompt="Be slow.")
    same = prompts(tmp_path, MIXED, system_prompt="Be quick.")
    assert all(prompt.startswith("[system]Be quick.\n") for prompt in same.values())
    assert prompts(tmp_path, MIXED[:1], system_prompt="Be slow.")["open"].startswith("[system]Be slow.\n")


def test_any_template_asks_for_a_confidence_once(tmp_path: Path) -> None:
    """Behind the form of the answer that the data set asks for; a template with words of its own for it keeps them."""
    plain, asked = prompts(tmp_path, MIXED), prompts(tmp_path, MIXED, ask_confidence=True)
    for name, prompt in plain.items():
        assert asked[name] == prompt.replace("\n[assistant]", CONFIDENCE + "\n[assistant]")
    assert "number between 0 and 1, within <confidence> </confidence> tags" in CONFIDENCE
    own = "{question} Then <confidence>your chance</confidence>."
    given = prompts(tmp_path, MIXED, ask_confidence=True, prompt_template=own)
    assert given["open"] == "[user]1 + 1? Then <confidence>your chance</confidence>.\n[assistant]"
    tag = [{"id": "tag", "question": "What does <confidence> mean?", "answer": "1"}]
    assert prompts(tmp_path, tag, ask_confidence=True)["tag"].count(CONFIDENCE) == 1, "it is the template's that counts"
    marked = make_task(tmp_path, ask_confidence=True).suites()[0].examples[0].meta
    assert marked[ASKS_CONFIDENCE] and ASKS_CONFIDENCE not in make_task(tmp_path).suites()[0].examples[0].meta


@pytest.mark.parametrize(
    ("name", "text", "answer"),
    [
        ("number", "It is 12. <confidence>0.8</confidence>", "12"),  # by the last number
        ("letter", "B <confidence>0.9</confidence>", "B"),  # by the whole response
        ("words", "Paris <confidence>1</confidence>", "paris"),
        ("box", r"\boxed{0.5} <confidence>\n0.25\n</confidence>", "1/2"),
    ],
)
def test_a_stated_confidence_is_no_part_of_the_answer(name: str, text: str, answer: str, tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"id": "number", "question": "6 + 6?", "answer": "12", "grader": "gsm8k"},
        {"id": "letter", "question": "Even?", "answer": "B", "choices": ["3", "4"]},
        {"id": "words", "question": "Where?", "answer": "Paris", "answerable": True},
        {"id": "box", "question": "Half of one?", "answer": r"\frac12"},
    ]
    task = make_task(tmp_path, benchmarks=[write(tmp_path / "all.jsonl", rows)])
    example = next(e for e in task.suites()[0].examples if e.id == name)
    assert task.grade(example, make_tokenizer().encode(text), False) == (Outcome.CORRECT, answer)


def test_the_byte_models_own_chat_template_marks_turns_with_one_token_each(tmp_path: Path) -> None:
    task = make_task(tmp_path, system_prompt="S", prompt_template="{question}")
    tokenizer = make_byte_tokenizer()
    task.attach(tokenizer)
    example = next(e for e in task.suites()[0].examples if e.id == "half")
    text = "Half of one?"
    assert tokenizer.decode(list(example.prompt_ids)) == f"<|system|>S<eos><|user|>{text}<eos><|assistant|>"
    assert len(example.prompt_ids) == 5 + len("S" + text)
    assert task.stop_ids == (tokenizer.eos_token_id,)


# ------------------------------------------------------------------------------------- overlaps and held-out questions

DISTINCT = [{"id": f"t{i}", "question": f"How many wheels have {i} cars?", "answer": str(4 * i)} for i in range(12)]


def overlapping(tmp_path: Path, decontaminate: str, **settings: Any) -> TextTask:
    train = write(tmp_path / "cars.jsonl", DISTINCT)
    test = write(tmp_path / "test.jsonl", [{"question": "how many  wheels have 5 cars", "answer": "20", "id": "five"}])
    return make_task(tmp_path, train=train, benchmarks=[test], decontaminate=decontaminate, **settings)


def trained_on(task: TextTask, n: int = 100) -> set[str]:
    return {example.id.rpartition("/")[2] for example in task.train_examples(0, n)}


def test_overlapping_training_questions_are_dropped_and_it_is_said_once(tmp_path: Path) -> None:
    task = overlapping(tmp_path, "drop")
    with pytest.warns(UserWarning, match=r"1 of 12 training questions overlap .* 1 of them word by word \(t5 = five\)"):
        assert trained_on(task) == {row["id"] for row in DISTINCT} - {"t5"}
    assert [overlap.train_id for overlap in task.overlapping] == ["t5"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        task.train_examples(100, 10)


def test_overlapping_training_questions_are_refused_or_kept_if_that_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"t5 = five.*task\.decontaminate=drop"):
        overlapping(tmp_path, "refuse").train_examples(0, 1)
    assert "t5" in trained_on(overlapping(tmp_path, "off"))


def test_validation_questions_are_the_same_for_every_seed_and_never_trained_on(tmp_path: Path) -> None:
    again = [*DISTINCT, *({**row, "id": f"{row['id']} again"} for row in DISTINCT)]
    train = write(tmp_path / "cars.jsonl", again)
    held = []
    for seed in (1, 2):
        for decontaminate in ("drop", "off"):
            task = make_task(tmp_path, seed, train=train, validation_questions=5, decontaminate=decontaminate)
            suite = task.suites()[-1]
            held.append([e.id for e in suite.examples])
            questions = {row["id"]: row["question"] for row in again}
            asked = {questions[example_id] for example_id in held[-1]}
            assert suite.name == VALIDATION and len(held[-1]) == 5
            assert not asked & {questions[example_id] for example_id in trained_on(task)}
            assert {questions[e] for e in trained_on(task)} | asked == set(questions.values())
    assert all(order == held[0] for order in held)


def test_at_least_one_question_is_left_to_train_on(tmp_path: Path) -> None:
    overlapping(tmp_path, "off", validation_questions=11).train_examples(0, 1)
    with pytest.raises(ValueError, match="no question is left"):
        overlapping(tmp_path, "off", validation_questions=12).train_examples(0, 1)


@pytest.mark.parametrize("name", ["truthfulqa", "truthfulqa_2025", "math500", "gsm8k", "selfaware"])
def test_what_is_reported_on_is_not_trained_on(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{name} cannot be trained on"):
        make_task(tmp_path, train=name).train_examples(0, 1)


def test_a_copy_of_truthfulqa_is_refused_too(tmp_path: Path) -> None:
    row = {"id": "truthfulqa-007", "question": "?", "answer": "A", "choices": ["a", "b"]}
    path = write(tmp_path / "mine.jsonl", [*DISTINCT, row])
    with pytest.raises(ValueError, match=r"truthfulqa-007.*never be trained on"):
        make_task(tmp_path, train=path).train_examples(0, 1)
    assert len(make_task(tmp_path, benchmarks=[path]).suites()[0].examples) == 13


def test_math_500_and_its_solutions() -> None:
    directory = data_dir("math500.jsonl", "math_train.jsonl")
    task = TextTask(MathConfig(data_dir=directory), 0)
    tokenizer = make_tokenizer()
    task.attach(tokenizer)
    rows = map(json.loads, Path(directory, "math500.jsonl").read_text(encoding="utf-8").splitlines())
    solutions = {row["id"]: row["solution"] for row in rows}
    examples = task.suites()[0].examples
    assert len(examples) == 500
    right = sum(task.grade(e, tokenizer.encode(solutions[e.id]), False)[0] is Outcome.CORRECT for e in examples[:100])
    assert right >= 99
