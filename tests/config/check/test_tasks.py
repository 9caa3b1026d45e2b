"""Settings of the shipped tasks are refused where the settings are, so that a plan is refused by them too."""

from __future__ import annotations

from pathlib import Path

import pytest

from carerl.config.load import load
from carerl.config.reading.compose import read_file
from carerl.errors import ConfigError
from carerl.tasks import BENCHMARKS, TASKS
from carerl.tasks.tiny import tokenizer as words
from carerl.tasks.tiny.questions import K_VALUES, MAX_QUESTIONS

TINY = ["recipe=care_grpo_tiny", "dry_run=true"]
MATH = ["recipe=care_grpo_3b", "dry_run=true"]
NAMES = 26**3


def refused(argv: list[str], *more: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load([*argv, *more])
    assert caught.value.reason and caught.value.remedy
    return caught.value


@pytest.mark.parametrize("name", ["multiply", "careful", "textbook_careful", "step_error", "abstain"])
def test_probabilities_lie_between_0_and_1(name: str) -> None:
    for value in ("7", "1.001", "-.001"):
        error = refused(TINY, f"task.{name}={value}")
        assert (error.field, error.value) == (f"task.{name}", float(value))
    for value in ("0", "1"):
        load([*TINY, f"task.{name}={value}"])


@pytest.mark.parametrize(
    ("name", "low"),
    [
        *((n, 1) for n in ("entities", "heldout", "evaluation_questions", "evaluation_facts", "evaluation_unknown")),
        *((n, 0) for n in ("facts_rows", "unknowable_rows", "question_rows", "textbook_rows")),
    ],
)
def test_counts_start_where_the_task_can_use_them(name: str, low: int) -> None:
    error = refused(TINY, f"task.{name}={low - 1}")
    assert (error.field, error.value) == (f"task.{name}", low - 1)
    suites = [f"task.{other}=1" for other in ("evaluation_facts", "evaluation_unknown") if other != name]
    load([*TINY, *suites, f"task.{name}={low}"])


TAUGHT = ["recipe=sft_decision_tiny", "dry_run=true"]


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["decision.name=ce"], "decision.name"), (["decision.reward=argmax"], "decision.reward"),
        (["algorithm.name=grpo"], "algorithm"), (["reward.name=correct"], "reward"),
        (["learner.ranks=3", "prompts_per_step=2"], "learner.ranks"),
    ],
)  # fmt: skip
def test_supervised_finetuning_samples_nothing_to_reward_or_to_train(words: list[str], field: str) -> None:
    assert load(TAUGHT).taught
    assert refused(TAUGHT, *words).field == field


def test_a_response_that_is_learned_states_no_confidence() -> None:
    text = ["recipe=sft_decision_4b", "dry_run=true"]
    assert refused(text, "task.ask_confidence=true").field == "task.ask_confidence"
    load(["recipe=calibration_aware_4b", "dry_run=true", "task.ask_confidence=true"])


@pytest.mark.parametrize("train_k", range(7))
def test_train_k_is_one_that_the_corpus_holds(train_k: int) -> None:
    argv = [*TINY, f"task.train_k={train_k}"]
    if train_k in K_VALUES:
        assert load(argv).task.train_k == train_k
    else:
        assert refused(argv).field == "task.train_k"


@pytest.mark.parametrize(
    ("setting", "limit"),
    [("evaluation_facts", "entities"), ("evaluation_unknown", "heldout")],
)
def test_an_evaluation_asks_for_no_more_names_than_there_are(setting: str, limit: str) -> None:
    load([*TINY, f"task.{limit}=40", f"task.{setting}=40"])
    error = refused(TINY, f"task.{limit}=40", f"task.{setting}=41")
    assert (error.field, error.value) == (f"task.{setting}", 41)
    assert f"task.{limit}" in error.reason and f"task.{setting}=40" in error.remedy


def test_the_tasks_own_limits_and_those_of_the_settings_are_one() -> None:
    """Whatever the task's constructor refuses is refused as a setting, with the field that its message names."""
    for asked in ("train_k=5", "evaluation_facts=0", "evaluation_facts=151", "evaluation_unknown=401",
                  f"evaluation_questions={MAX_QUESTIONS + 1}", "evaluation_questions=0"):  # fmt: skip
        name, _, value = asked.partition("=")
        config = load(TINY)
        setattr(config.task, name, int(value))
        with pytest.raises(ValueError, match=f"task.{name}"):
            TASKS["tiny"].build(config.task, config.seed)
        assert refused(TINY, f"task.{asked}").field == f"task.{name}"


def test_names_are_left_to_make_up() -> None:
    load([*TINY, f"task.heldout={NAMES - 150 - 1}"])
    assert refused(TINY, f"task.heldout={NAMES - 150}").field == "task.heldout"


def test_a_corpus_has_rows() -> None:
    families = ("facts_rows", "unknowable_rows", "question_rows", "textbook_rows")
    error = refused(TINY, *(f"task.{name}=0" for name in families))
    assert "no rows" in error.reason


def test_questions_are_left_to_train_on() -> None:
    """Of two operators that always multiply there are 10 · 8² questions; an evaluation that takes all of them would
    make the training draw for ever."""
    settings = ["task.train_k=2", "task.multiply=1", f"task.evaluation_questions={MAX_QUESTIONS}"]
    products = sum(word.startswith("*") for word in words.OPERATORS)
    all_questions = 10 * products**2
    task = load([*TINY, "task.train_k=2", "task.multiply=1"]).task
    task.evaluation_questions = MAX_QUESTIONS
    taken: dict[int, int] = {}
    for seed in range(20):
        suites = TASKS["tiny"].build(task, seed).suites()
        taken[seed] = len({example.prompt_ids for example in suites[0].examples})
    none_left = next(seed for seed, count in taken.items() if count == all_questions)
    one_left = next(seed for seed, count in taken.items() if count == all_questions - 1)
    error = refused(TINY, *settings, f"seed={none_left}")
    assert error.field == "task.evaluation_questions"
    assert f"task.evaluation_questions={all_questions // 2}" in error.remedy
    load([*TINY, *settings, f"seed={one_left}"])
    assert len(TASKS["tiny"].build(task, one_left).train_examples(0, 2)) == 2


def test_the_model_has_a_row_for_every_word_of_the_task(tmp_path: Path) -> None:
    error = refused(TINY, f"model.shape.vocab_size={words.VOCAB_SIZE - 1}")
    assert (error.field, error.value) == ("model.shape.vocab_size", words.VOCAB_SIZE - 1)
    assert f"model.shape.vocab_size={words.VOCAB_SIZE}" in error.remedy
    load([*TINY, f"model.shape.vocab_size={words.VOCAB_SIZE}"])
    load([*TINY, "model.shape.vocab_size=128"])
    # the base model's own settings are looked at as well
    assert refused(TINY, "model.base_overrides=[model.shape.vocab_size=32]").field == "model.shape.vocab_size"
    (tmp_path / "config.json").write_text(
        '{"model_type": "qwen3", "vocab_size": 9, "hidden_size": 64, "intermediate_size": 128, "head_dim": 32, '
        '"num_hidden_layers": 3, "num_attention_heads": 2, "max_position_embeddings": 64}'
    )
    error = refused(TINY, f"model.path={tmp_path}")
    assert error.field == "model.path" and "vocab_size 9" in error.reason


@pytest.mark.parametrize(
    ("word", "field", "told"),
    [
        ("task.prompt_template=solve", "task.prompt_template", "{question}"),
        ("task.train=", "task.train", "math_train"),
        ("task.train=math", "task.train", "math_train"),
        ("task.train=math500", "task.train", "test set"),
        ("task.train=truthfulqa", "task.train", "authors of TruthfulQA"),
        ("task.train=truthfulqa_2025", "task.train", "authors of TruthfulQA"),
        ("task.train=rows.csv", "task.train", ".jsonl"),
        ("task.benchmarks=[]", "task.benchmarks", "nothing to evaluate"),
        ("task.benchmarks=[math500,gsm9k]", "task.benchmarks", "gsm8k"),
        ("task.benchmarks=[math500,gsm8k,math500]", "task.benchmarks", "named twice"),
        ("task.benchmarks=[a/mine.jsonl,b/mine.jsonl]", "task.benchmarks", "named twice"),
        ("task.benchmarks=[a/validation.jsonl]", "task.benchmarks", "held-out"),
        ("task.decontaminate=dropp", "task.decontaminate", "task.decontaminate=drop"),
        ("task.validation_questions=-1", "task.validation_questions", "at least 0"),
        ("task.train_path=x.jsonl", "task.train_path", "train"),
    ],
)
def test_a_task_over_text_needs_a_question_and_data(word: str, field: str, told: str) -> None:
    error = refused(MATH, word)
    assert error.field == field and told in f"{error.reason} {error.remedy}"


@pytest.mark.parametrize(
    "words",
    [
        ["task.train=gsm8k_train", "task.benchmarks=[gsm8k,truthfulqa,selfaware]"],
        ["task.train=mine.jsonl", "task.benchmarks=[yours.jsonl,math500]", "task.decontaminate=refuse"],
        ["task.benchmarks=[]", "task.validation_questions=100"],
        ["task.decontaminate=off", "task.prompt_template='Q: {question}'"],
        *(
            [f"task.name={name}", "task.train=math_train", "task.benchmarks=[math500]"]
            for name in TASKS
            if name != "tiny"
        ),
    ],
)
def test_a_plan_of_a_task_over_text_needs_no_data(words: list[str]) -> None:
    assert load([*MATH, *words]).task.decontaminate in ("drop", "refuse", "off")


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"tiny"}))
def test_every_task_over_text_has_a_fragment_and_data_of_its_own(name: str) -> None:
    assert read_file(f"task/{name}", "extends")["task"] == {"name": name}
    task = load(
        [*MATH, f"task.name={name}", *(["task.train=mine.jsonl", "task.benchmarks=[math500]"] * (name == "jsonl"))]
    ).task
    default = TASKS[name].config()
    if name != "jsonl":
        assert (task.train, task.benchmarks) == (default.train, default.benchmarks)
        assert BENCHMARKS[task.train].trainable and not BENCHMARKS[task.benchmarks[0]].trainable


def test_files_are_there_when_a_run_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"problem": "1+1", "answer": "2"}\n')
    there, gone = (f"{tmp_path / name}" for name in ("a.jsonl", "b.jsonl"))
    load([*MATH, f"task.train={gone}", f"task.data_dir={gone}"])  # a plan needs no data
    run = MATH[:1]
    load([*run, f"task.train={there}", f"task.data_dir={tmp_path}"])
    assert "no such file" in refused(run, f"task.train={gone}").reason
    assert refused(run, f"task.benchmarks=[math500,{gone}]").field == "task.benchmarks"
    assert "no such directory" in refused(run, f"task.data_dir={gone}").reason
