"""Labelled traces and gains against what a task has: which rows are learned and what is said of the others, tasks whose
answers cannot be found, settings that nothing would read, and a run that is resumed.

Rows are hand-made, and the tokenizer is the byte-level one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from carerl.config.check.at_hand import check_task
from carerl.config.check.prompts import data_missing, planned_prompts, prompt_lines, prompt_record
from carerl.config.load import dump, load
from carerl.config.plan.plan import plan
from carerl.config.rehearsal import rehearsed
from carerl.config.schema import RunConfig
from carerl.errors import ConfigError
from carerl.tasks import BENCHMARKS, TASKS, TextTask
from carerl.tasks.benchmarks.table import find_benchmark
from carerl.tasks.byte_tokenizer import make_byte_tokenizer

RECIPE = """
extends: [task/jsonl, model/bytes, algorithm/grpo, regularizer/none]
description: rows of its own
model: {base_recipe: base_bytes}
reward: {name: correct}
task: {prompt_template: "{question}"}
rollout: {max_model_len: 4096, max_new_tokens: 64}
"""
Row = dict[str, Any]
TEST = [{"id": "test", "question": "Name a prime beyond ninety.", "answer": "97"}]


def numbered(n: int) -> list[Row]:
    return [
        {"id": f"q{k}", "question": f"What is {k} and one?", "answer": f"{k + 1}", "solution": rf"\boxed{{{k + 1}}}"}
        for k in range(n)
    ]


def write(path: Path, rows: Sequence[Row]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def asked(folder: Path, train: Sequence[Row], *words: str) -> tuple[TextTask, RunConfig]:
    (folder / "own.yaml").write_text(RECIPE)
    files = [f"task.train={write(folder / 'train.jsonl', train)}"]
    files += [f"task.benchmarks=[{write(folder / 'test.jsonl', TEST)}]"]
    config = load([f"recipe={folder / 'own.yaml'}", *files, "distillation.name=mixture", *words])
    task = TextTask(config.task, config.seed)
    task.attach(make_byte_tokenizer())
    return task, config


def learned(task: TextTask) -> set[str]:
    decode = make_byte_tokenizer().decode
    texts = [decode(list(prompt), skip_special_tokens=True) for prompt, _ in task.traces(0)]
    return {text.removeprefix("<|user|>").removesuffix("<|assistant|>") for text in texts}


@pytest.mark.parametrize("mode", ["drop", "off"])
def test_traces_never_teach_what_an_evaluation_asks(tmp_path: Path, mode: str) -> None:
    """Of 40 training questions 10 are held out; the file has all 40, and the test question with its solution."""
    rows = numbered(40)
    traces = write(tmp_path / "traces.jsonl", [*rows, {**TEST[0], "solution": r"\boxed{97}"}])
    words = ["task.validation_questions=10", f"task.decontaminate={mode}", f"distillation.traces={traces}"]
    task, config = asked(tmp_path, rows, *words)
    with pytest.warns(UserWarning, match="11 of 41 training questions overlap an evaluation prompt"):
        check_task(task, config)
    held, test = task.suites()[1], task.suites()[0]
    names = {example.id for example in held.examples}
    assert len(names) == 10 and test.name == "test"
    assert learned(task) == {row["question"] for row in rows if row["id"] not in names}
    assert task.traced is not None and set(task.traced.asked) == {*names, "test"}
    assert prompt_record(config, task)["traces"]["asked"] == 11
    (line,) = [line for line in prompt_lines(config, task) if line.startswith("traces")]
    assert line.startswith("traces to learn: 30 of 41 (task.teach=solution); left out: 11 that an evaluation asks (")


def test_traces_that_an_evaluation_asks_are_refused_where_that_is_wanted(tmp_path: Path) -> None:
    traces = write(tmp_path / "traces.jsonl", numbered(40))
    words = ["task.validation_questions=10", "task.decontaminate=refuse", f"distillation.traces={traces}"]
    with pytest.raises(ConfigError, match=r"10 of 40 .* overlap an evaluation") as caught:
        check_task(*asked(tmp_path, numbered(40), *words))
    assert caught.value.field == "distillation.traces"


def test_what_is_left_out_of_a_file_is_said_and_recorded(tmp_path: Path) -> None:
    good = [{**row, "question": f"Other: {row['question']}"} for row in numbered(3)]
    rows = [
        *good,
        {"id": "wrong", "question": "Two and two?", "answer": "4", "solution": r"\boxed{5}"},
        {"id": "bare", "question": "Two and three?", "answer": "5"},
        {"id": "long", "question": "Two and four?", "answer": "6", "solution": "so " * 40 + r"\boxed{6}"},
        {"id": "asks", "question": "Two and five? " * 40, "answer": "7", "solution": r"\boxed{7}"},
    ]
    file = f"distillation.traces={write(tmp_path / 'traces.jsonl', rows)}"
    task, config = asked(tmp_path, numbered(4), file, "task.max_prompt_tokens=60")
    check_task(task, config)
    assert learned(task) == {row["question"] for row in good}
    counts = {"wrong": 1, "too_long": 1, "without": 1, "long_prompts": 1}
    assert prompt_record(config, task)["traces"] == {"teach": "solution", "questions": 7, "taught": 3, **counts}
    assert (
        "traces to learn: 3 of 7 (task.teach=solution); left out: 1 whose prompt is longer than task.max_prompt_tokens "
        "(asks), 1 without a solution (bare), 1 with more than 64 tokens (long), 1 that the grader does not find "
        "correct (wrong)"
    ) in prompt_lines(config, task)
    file = f"distillation.traces={write(tmp_path / 'none.jsonl', rows[3:])}"
    with pytest.raises(ConfigError, match=r"none of 4 labelled questions .* \(asks\), .*\(bare\), .*\(long\), .*wrong"):
        check_task(*asked(tmp_path, numbered(4), file, "task.max_prompt_tokens=60"))


def test_a_run_says_how_many_of_its_own_questions_are_labelled(tmp_path: Path) -> None:
    task, config = asked(tmp_path, numbered(40), "distillation.labelled=.1")
    check_task(task, config)
    assert "traces to learn: 4 of 4 (task.teach=solution)" in prompt_lines(config, task)
    tiny = load(["recipe=mixture_tiny"])
    world = TASKS["tiny"].build(tiny.task, tiny.seed)
    assert prompt_lines(tiny, world) == ["traces to learn: 64"] and prompt_record(tiny, world) == {
        "traces": {"taught": 64}
    }
    assert prompt_lines(load(["recipe=rlif_tiny"]), world) == []


def test_a_plan_does_not_read_a_file_that_is_not_here(tmp_path: Path) -> None:
    _, config = asked(tmp_path, numbered(4), "dry_run=true", f"distillation.traces={tmp_path / 'gone.jsonl'}")
    assert data_missing(config) == [f"{tmp_path / 'gone.jsonl'}"]
    (line,) = planned_prompts(config)
    assert f"{tmp_path / 'gone.jsonl'} is not on this machine" in line and plan(config).prompts == (line,)
    _, config = asked(tmp_path, numbered(4), "dry_run=true", f"distillation.traces={tmp_path / 'train.jsonl'}")
    assert data_missing(config) == [] and any("traces to learn: 4 of 4" in line for line in planned_prompts(config))


def one_row(name: str) -> Row:
    """A row as the data set's own file has it in effect, in the words of a file of one's own."""
    grader = find_benchmark(name).grader
    answers: dict[str, Row] = {
        "countdown": {"numbers": [1, 2], "target": 3},
        "choice": {"choices": ["tin", "gold"], "answer": "B"},
        "selfaware": {"answerable": False},
    }
    return {"question": f"Of {name}?", "grader": grader, **answers.get(grader, {"answer": "3"})}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_gains_need_a_mark_of_the_answer(name: str, tmp_path: Path) -> None:
    words = ["distillation.name=prg", "distillation.weight=0"]
    task, config = asked(tmp_path, [one_row(name), *numbered(1)], *words)
    if find_benchmark(name).grader != "selfaware":
        check_task(task, config)
        return
    with pytest.raises(ConfigError, match="1 of 2 training questions have the grader selfaware") as caught:
        check_task(task, config)
    assert caught.value.field == "distillation.name" and "mixture" in caught.value.remedy


@pytest.mark.parametrize("word", ["labelled=.05", "per_step=64", "traces=rows.jsonl", "floor=.2"])
def test_without_traces_nothing_reads_what_is_said_of_them(word: str) -> None:
    words = ["recipe=hytuning_tiny", "dry_run=true", f"distillation.{word}"]
    with pytest.raises(ConfigError, match="learns no traces") as caught:
        load([*words, "distillation.weight=0"])
    assert caught.value.field == f"distillation.{word.partition('=')[0]}"
    load(words)


def test_gains_alone_can_be_rehearsed() -> None:
    config = load(["recipe=hytuning_tiny", "distillation.weight=0", "algorithm.minibatches=1"])
    small = rehearsed(config, cpu_vllm=False)
    assert small.distillation.gains and not small.distillation.learns


def test_a_rehearsal_learns_the_beginnings_of_solutions_that_are_longer_than_its_responses(tmp_path: Path) -> None:
    rows = [{**row, "solution": f"Count on by one, and so {row['solution']}"} for row in numbered(4)]
    task, config = asked(tmp_path, rows, "distillation.labelled=1")
    small = rehearsed(replace(config, rehearse=True), cpu_vllm=False)
    check_task(task, config)
    whole = dict(task.traces(4))
    check_task(task, small)
    assert small.rollout.max_new_tokens < min(map(len, whole.values()))
    assert dict(task.traces(4)) == {ids: told[: small.rollout.max_new_tokens] for ids, told in whole.items()}


def test_what_is_learned_of_a_row_is_said_only_where_rows_are_learned(tmp_path: Path) -> None:
    asked(tmp_path, numbered(2), "task.teach=decision")
    for words in (["distillation.name=none"], ["distillation.name=prg", "distillation.weight=0"]):
        with pytest.raises(ConfigError, match="learns no solutions") as caught:
            asked(tmp_path, numbered(2), "task.teach=decision", *words)
        assert caught.value.field == "task.teach"


def test_a_run_of_finetuning_without_a_mixture_is_told_of_it() -> None:
    with pytest.raises(ConfigError) as caught:
        load(["recipe=rd_tiny", "distillation.name=none", "distillation.labelled=.05"])
    assert caught.value.field == "distillation.labelled" and "only a run of RL" not in caught.value.reason
    assert caught.value.remedy == "write distillation.name=mixture too"


def test_a_resumed_run_keeps_its_labelled_questions(tmp_path: Path) -> None:
    """1 % of 32 questions in each of 200 steps are 64 traces; 201 steps have as many, and 210 have 67."""
    first = load(["recipe=mixture_tiny"])
    (tmp_path / "config.yaml").write_text(dump(first))
    task = TASKS["tiny"].build(first.task, first.seed)
    for steps in (200, 201):
        check_task(task, load([f"resume={tmp_path}", f"steps={steps}"]))
    with pytest.raises(ConfigError, match=r"200 steps and 64 labelled traces.* would be 67") as caught:
        check_task(task, load([f"resume={tmp_path}", "steps=210"]))
    assert (caught.value.field, caught.value.value) == ("steps", 210)
    fresh = load(["recipe=mixture_tiny", f"run_dir={tmp_path / 'run'}", "resume=auto", "steps=210"])
    check_task(task, fresh)
