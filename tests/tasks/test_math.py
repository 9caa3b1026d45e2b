r"""The math task on a hand-made file: loading, order, prompts, grading, metrics.

The tokenizer is a byte-level one made here. Not covered: the hub (no network in tests).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from carerl.tasks import TASKS
from carerl.tasks.math import MathConfig, MathTask, load_problems, parse_row
from carerl.types import Group, Outcome, Sample

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
TEMPLATE = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def make_tokenizer(chat: bool = True) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(BPE({c: i for i, c in enumerate([*alphabet, "<eos>"])}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")
    if chat:
        tokenizer.chat_template = TEMPLATE
    return tokenizer


def write(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def make_task(tmp_path: Path, seed: int = 1, chat: bool = True, **settings: str) -> MathTask:
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
    task = MathTask(MathConfig(train_path=train, eval_path=evaluation, **settings), seed)
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
    task = make_task(tmp_path, system_prompt="Be brief.", prompt_template="Q: {problem} Answer in \\boxed{}.")
    example = next(e for e in task.suites()[0].examples if e.id == "half")
    text = make_tokenizer().decode(list(example.prompt_ids))
    assert text == "[system]Be brief.\n[user]Q: Half of one? Answer in \\boxed{}.\n[assistant]"


def test_prompt_without_a_chat_template_is_plain_text(tmp_path: Path) -> None:
    task = make_task(tmp_path, chat=False, system_prompt="Be brief.", prompt_template="{problem}")
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
    task = make_task(tmp_path, prompt_template="{problem} For instance \\boxed{\\frac12}.")
    example = next(e for e in task.suites()[0].examples if e.id == "half")
    assert task.grade(example, make_tokenizer().encode("I do not know."), False) == (Outcome.UNPARSED, None)


def test_score_by_hand(tmp_path: Path) -> None:
    task, tokenizer = make_task(tmp_path), make_tokenizer()
    responses = {
        "half": [r"\boxed{0.5}", r"\boxed{1/2}", r"\boxed{2}", "?"],  # majority 1/2, share .5, right
        "both": [r"\boxed{1}"] * 3 + [r"\boxed{1,-1}"],  # majority 1, share .75, wrong
    }
    groups = []
    for example in task.suites()[0].examples:
        if example.id not in responses:
            continue
        samples = []
        for text in responses[example.id]:
            ids = tuple(tokenizer.encode(text))
            outcome, answer = task.grade(example, ids, False)
            samples.append(Sample(example.id, ids, (math.log(0.5),) * len(ids), False, 0, outcome, answer))
        groups.append(Group(example, samples))
    evaluation = task.score({"math": groups})
    assert evaluation.metrics["eval/accuracy"] == pytest.approx(3 / 8)
    assert evaluation.metrics["eval/maj"] == pytest.approx(1 / 2)
    assert evaluation.metrics["eval/entropy"] == pytest.approx(math.log(2))
    assert evaluation.metrics["calibration/question_ece"] == pytest.approx((0.5 + 0.75) / 2)
    rows = {row["example_id"]: row for row in evaluation.rows}
    assert (rows["half"]["majority"], rows["half"]["unparsed"]) == ("1/2", 1)
    assert sum(b.count for b in evaluation.reliability["math"]) == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "data.jsonl:2: not JSON"),
        ("[1, 2]", "data.jsonl:2: a row must be an object"),
        ('{"answer": "3"}', "data.jsonl:2: no text in 'problem'"),
        ('{"problem": "Why?"}', "data.jsonl:2: no text in 'answer'"),
        ('{"problem": "Why?", "solution": "because"}', "data.jsonl:2: no text in 'answer'"),
    ],
)
def test_a_bad_row_is_refused_by_file_and_row(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"problem": "1 + 1?", "answer": 2}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_problems(str(path), "train")


def test_missing_and_empty_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        load_problems(str(tmp_path / "none.jsonl"), "train")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="no rows"):
        load_problems(str(tmp_path / "empty.jsonl"), "train")


def test_the_gold_answer_may_come_from_the_solution() -> None:
    assert parse_row({"problem": "?", "solution": r"\boxed{1} then \boxed{2}"}, "x:1").gold == "2"
    assert parse_row({"problem": "?", "answer": 0.25}, "x:1").accepted == ("1/4",)


def test_a_plan_needs_no_data_and_no_tokenizer() -> None:
    entry = TASKS["math"]
    task = entry.build(MathConfig(train_path="missing.jsonl", eval_path="missing.jsonl"), 0)
    assert task.make_tokenizer() is None
    with pytest.raises(ValueError, match="problem"):
        entry.build(MathConfig(prompt_template="no place for the question"), 0)


def test_a_tokenizer_that_loses_text_is_refused() -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    broken = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({"<eos>": 0, "<unk>": 1}, unk_token="<unk>")), eos_token="<eos>"
    )
    with pytest.raises(ValueError, match="does not give back"):
        MathTask(MathConfig(), 0).attach(broken)


def test_math_500_loads_and_its_solutions_grade_right() -> None:
    path = DATA / "math500.jsonl"
    if not path.is_file():
        pytest.skip("MATH-500 is not at hand")
    task = MathTask(MathConfig(train_path=str(path), eval_path=str(path)), 0)
    tokenizer = make_tokenizer()
    task.attach(tokenizer)
    solutions = {row["id"]: row["solution"] for row in map(json.loads, path.open(encoding="utf-8"))}
    examples = task.suites()[0].examples
    assert len(examples) == 500
    right = sum(task.grade(e, tokenizer.encode(solutions[e.id]), False)[0] is Outcome.CORRECT for e in examples[:100])
    assert right >= 99
