"""The tiny task's examples and suites."""

from __future__ import annotations

from dataclasses import replace

import pytest

from carerl.tasks import TASKS
from carerl.tasks.tiny import TinyConfig, TinyTask
from carerl.tasks.tiny import tokenizer as tk
from carerl.types import Outcome, Sample


def test_table_builds_the_task() -> None:
    entry = TASKS["tiny"]
    task = entry.build(entry.config(), 3)
    assert entry.config().name == "tiny"
    assert task.stop_ids == (tk.EOS,) and task.vocab_size == 64


def test_pitfall_18_training_examples_are_a_function_of_seed_and_position() -> None:
    one, same = TinyTask(TinyConfig(), 100), TinyTask(TinyConfig(), 100)
    whole = same.train_examples(0, 300)
    assert len({example.id for example in whole}) == 300
    for start, n in ((250, 50), (0, 1), (31, 2), (32, 32), (7, 90)):  # in any order, however it is cut
        assert one.train_examples(start, n) == whole[start : start + n]
    assert one.train_examples(5, 0) == []
    other = TinyTask(TinyConfig(), 101)
    assert [e.prompt_ids for e in whole] != [e.prompt_ids for e in other.train_examples(0, 300)]


def test_evaluating_changes_no_training_example() -> None:
    task = TinyTask(TinyConfig(), 100)
    before = task.train_examples(5, 32)
    task.suites()
    task.sft_batch(5)
    assert task.train_examples(5, 32) == before


def test_training_questions_are_never_evaluation_questions() -> None:
    task = TinyTask(TinyConfig(evaluation_questions=3000), 100)  # many, so that draws do collide
    evaluation = {example.prompt_ids for example in task.suites()[0].examples}
    drawn = task.train_examples(0, 20 * 64)
    assert not evaluation & {example.prompt_ids for example in drawn}
    assert all(len(example.prompt_ids) == 6 for example in drawn)
    assert len({example.id for example in drawn}) == 20 * 64


def test_validation_questions_are_neither_trained_on_nor_reported() -> None:
    task = TinyTask(TinyConfig(evaluation_questions=3000, validation_questions=500), 100)
    suites = {suite.name: {example.prompt_ids for example in suite.examples} for suite in task.suites()}
    assert [len(suite.examples) for suite in task.suites()][-1] == 500 and list(suites)[-1] == "validation"
    trained = {example.prompt_ids for example in task.train_examples(0, 20 * 64)}
    assert not suites["validation"] & suites["q3"] and not suites["validation"] & trained
    without = TinyTask(TinyConfig(evaluation_questions=3000), 100)
    assert task.suites()[:-1] == without.suites()
    # training is what it was, less the questions that are held out now
    kept = [e.prompt_ids for e in without.train_examples(0, 640) if e.prompt_ids not in suites["validation"]]
    assert len(kept) < 640 and set(kept) <= {e.prompt_ids for e in task.train_examples(0, 700)}


def test_an_evaluation_that_takes_all_questions_leaves_none_to_validate_on() -> None:
    config = TinyConfig(train_k=2, multiply=1.0, evaluation_questions=5000, validation_questions=50)
    taken = [len({e.prompt_ids for e in TinyTask(replace(config, validation_questions=0), seed).suites()[0].examples})
             for seed in range(8)]  # fmt: skip
    with pytest.raises(ValueError, match=r"validation_questions = 50: .* leaves too few"):
        TinyTask(config, taken.index(10 * 8**2))


def test_suites() -> None:
    task = TinyTask(TinyConfig(), 100)
    suites = {suite.name: suite for suite in task.suites()}
    assert list(suites) == ["q3", "q2", "q4", "facts", "unknowable"]
    assert [len(suite.examples) for suite in suites.values()] == [300, 300, 300, 150, 150]
    assert [suite.name for suite in suites.values() if suite.primary] == ["q3"]
    for k in (2, 3, 4):
        suite = suites[f"q{k}"]
        assert {len(example.prompt_ids) for example in suite.examples} == {k + 3}
        assert suite.max_new_tokens == k + 5
    known = {example.prompt_ids for example in suites["facts"].examples}
    unknown = {example.prompt_ids for example in suites["unknowable"].examples}
    assert len(known) == len(unknown) == 150 and not known & unknown
    assert {example.gold for example in suites["unknowable"].examples} == {"?"}
    ids = [example.id for suite in suites.values() for example in suite.examples]
    assert len(set(ids)) == len(ids)
    assert task.suites() == TinyTask(TinyConfig(), 100).suites()


def test_sizes_come_from_the_config() -> None:
    config = TinyConfig(
        train_k=2, entities=20, heldout=30, evaluation_questions=5, evaluation_facts=7, evaluation_unknown=9
    )
    task = TinyTask(config, 1)
    assert [(s.name, len(s.examples)) for s in task.suites()] == [
        ("q2", 5),
        ("q3", 5),
        ("q4", 5),
        ("facts", 7),
        ("unknowable", 9),
    ]
    assert {len(e.prompt_ids) for e in task.train_examples(0, 10)} == {5}
    assert task.sft_batch(0).rows == config.rows_per_step == 256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_k": 5}, "train_k = 5"),
        ({"evaluation_facts": 151}, "evaluation_facts = 151"),
        ({"evaluation_unknown": 401}, "evaluation_unknown = 401"),
        ({"evaluation_questions": 5001}, "evaluation_questions = 5001"),
        ({"evaluation_questions": 0}, "evaluation_questions = 0"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TinyTask(TinyConfig(**change), 0)  # type: ignore[arg-type]


def test_what_is_taught_is_the_careful_chain_and_the_drawn_gold() -> None:
    """The chain is true even where the gold is not; the decision that is found in it is the gold."""
    task = TinyTask(TinyConfig(gold_noise=0.1), 100)
    noisy = 0
    for example in task.train_examples(0, 200):
        ids = task.target(example)
        method, *chain, mark, answer, end = (tk.TOKENS[i] for i in ids)
        prompt, values = [tk.TOKENS[i] for i in example.prompt_ids], [int(chain[0])]
        for operator in prompt[2:-1]:
            number = int(operator[1:])
            values.append((values[-1] + number if operator[0] == "+" else values[-1] * number) % 10)
        assert (method, mark, end, chain) == ("C", "A", "<eos>", list(map(str, values)))
        assert prompt[1] == chain[0] and answer == example.gold and chain[-1] == example.meta["true"]
        assert task.grade(example, ids, False)[0] is Outcome.CORRECT
        sample = Sample(example.id, ids, (0.0,) * len(ids), False, (0, 0))
        assert (found := task.decision(example, sample)) is not None and found.chosen in found.right
        noisy += answer != chain[-1]
    assert 50 < noisy < 130, "a share of .1 times the mean first digit, 4.5"
