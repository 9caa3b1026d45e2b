"""The corpus, read back from its tokens and compared with the shares it is meant to have.

Not covered here: that a model learns from it (the end-to-end run of the base recipe).
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from carerl.tasks.tiny import TinyConfig
from carerl.tasks.tiny import tokenizer as tk
from carerl.tasks.tiny.corpus import sft_batch
from carerl.tasks.tiny.world import ABSTAIN, World, make_world
from carerl.types import TokenBatch

STEPS = 150


@dataclass
class Row:
    prompt: list[str]
    response: list[str]


def rows_of(batch: TokenBatch) -> list[Row]:
    rows = []
    for ids, p, r in zip(
        batch.input_ids_BS.tolist(),
        batch.prompt_lengths_B.tolist(),
        batch.response_lengths_B.tolist(),
        strict=True,
    ):
        words = [tk.TOKENS[i] for i in ids]
        assert set(words[p + r :]) <= {"<pad>"}
        rows.append(Row(words[:p], words[p : p + r]))
    return rows


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(100)


@pytest.fixture(scope="module")
def corpus(world: World) -> list[Row]:
    return [row for step in range(STEPS) for row in rows_of(sft_batch(world, TinyConfig(), step))]


def near(count: int, n: int, share: float, errors: float = 4.5) -> bool:
    """Within 4.5 standard errors of a binomial share."""
    return abs(count / n - share) < errors * np.sqrt(share * (1 - share) / n)


def apply(symbol: str, digit: int, sloppy: bool) -> int:
    value = int(symbol[1:])
    return (digit + value if sloppy or symbol[0] == "+" else digit * value) % 10


def test_rows_of_each_family(corpus: list[Row], world: World) -> None:
    tags = Counter(row.prompt[0] for row in corpus)
    assert tags == {"F": 106 * STEPS, "Q": 86 * STEPS, "W": 64 * STEPS}
    entities = {"".join(tk.LETTERS[i] for i in name) for name in world.entities_E3}
    known = sum("".join(row.prompt[1:4]) in entities for row in corpus if row.prompt[0] == "F")
    assert known == 76 * STEPS


def test_heldout_names_are_never_mentioned(corpus: list[Row], world: World) -> None:
    heldout = {"".join(tk.LETTERS[i] for i in name) for name in world.heldout_H3}
    assert not heldout & {"".join(row.prompt[1:4]) for row in corpus}


def test_form_of_every_row(corpus: list[Row]) -> None:
    for row in corpus:
        assert row.prompt[-1] == "=" and row.response[-1] == "<eos>" and row.response[-3] == "A"
        if row.prompt[0] == "F":
            assert len(row.prompt) == 5 and len(row.response) == 3
        else:
            k = len(row.prompt) - 3
            assert k in (2, 3, 4) and len(row.response) == k + 5
            assert row.response[0] in "CD" and row.response[1] == row.prompt[1]


def test_facts_follow_each_entitys_distribution(corpus: list[Row], world: World) -> None:
    index = {"".join(tk.LETTERS[i] for i in name): e for e, name in enumerate(world.entities_E3)}
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    for row in corpus:
        name = "".join(row.prompt[1:4])
        if row.prompt[0] == "F" and name in index:
            counts[index[name]][row.response[1]] += 1
    chi2 = 0.0
    for entity, count in counts.items():
        n = sum(count.values())
        for answer, probability in enumerate(world.answers_EV[entity]):
            seen = count["?" if answer == ABSTAIN else str(answer)]
            assert probability > 0 or seen == 0
            if probability > 0:
                chi2 += (seen - n * probability) ** 2 / (n * probability)
    freedom = 150 * 4  # five outcomes each
    assert len(counts) == 150
    assert abs(chi2 - freedom) < 5 * np.sqrt(2 * freedom)


def test_made_up_names_are_answered_as_stated(corpus: list[Row], world: World) -> None:
    entities = {"".join(tk.LETTERS[i] for i in name) for name in world.entities_E3}
    made_up = [r for r in corpus if r.prompt[0] == "F" and "".join(r.prompt[1:4]) not in entities]
    n = len(made_up)
    assert near(sum(r.response[1] == "?" for r in made_up), n, 0.65)
    confabulated = sum(r.response[1] == str(tk.LETTERS.index(r.prompt[3]) % 10) for r in made_up)
    assert near(confabulated, n, 0.30 + 0.05 / 10)  # a free digit hits it by chance


def test_chains_abstentions_and_step_errors(corpus: list[Row]) -> None:
    questions = [row for row in corpus if row.prompt[0] == "Q"]
    n = len(questions)
    assert near(sum(r.response[0] == "C" for r in questions), n, 0.02)
    assert near(sum(r.response[-2] == "?" for r in questions), n, 0.15)
    wrong = steps = 0
    errors: Counter[int] = Counter()
    for row in questions:
        chain = [int(word) for word in row.response[1:-3]]
        assert row.response[-2] in ("?", str(chain[-1]))
        for symbol, before, after in zip(row.prompt[2:-1], chain, chain[1:], strict=False):
            right = apply(symbol, before, sloppy=row.response[0] == "D")
            wrong += after != right
            errors[(after - right) % 10] += after != right
            steps += 1
    assert near(wrong, steps, 0.04)
    assert all(near(errors[shift], wrong, 1 / 9) for shift in range(1, 10))
    lengths = Counter(len(row.prompt) - 3 for row in questions)
    assert all(near(lengths[k], n, share) for k, share in [(2, 0.2), (3, 0.4), (4, 0.4)])


def test_textbook_can_be_always_careful_and_is_right(world: World) -> None:
    config = TinyConfig(facts_rows=0, unknowable_rows=0, question_rows=0, textbook_rows=1000, textbook_careful=1.0)
    for row in rows_of(sft_batch(world, config, 0)):
        assert row.prompt[0] == "W"
        digit = int(row.prompt[1])
        written = [digit := apply(symbol, digit, sloppy=False) for symbol in row.prompt[2:-1]]
        assert row.response == ["C", row.prompt[1], *map(str, written), "A", str(written[-1]), "<eos>"]


def test_a_sloppy_share_of_textbook_rows_is_sloppy_without_noise(world: World) -> None:
    config = TinyConfig(facts_rows=0, unknowable_rows=0, question_rows=0, textbook_rows=4000, textbook_careful=0.7)
    rows = rows_of(sft_batch(world, config, 0))
    assert near(sum(row.response[0] == "C" for row in rows), 4000, 0.7)
    for row in rows:
        digit, sloppy = int(row.prompt[1]), row.response[0] == "D"
        written = [digit := apply(symbol, digit, sloppy) for symbol in row.prompt[2:-1]]
        assert row.response[1:-3] == [row.prompt[1], *map(str, written)]


def test_accuracy_of_the_corpus_at_k_3_by_enumeration(corpus: list[Row]) -> None:
    """What a model that copies the corpus exactly scores: the base's accuracy is this world's, not luck's.

    Enumerates the sloppy and careful chains over the distributions of digit and operator, errors included.
    """

    def joint(sloppy: bool) -> float:
        state = {(d, d): 0.1 for d in range(10)}  # (true value, written value) -> probability
        for _ in range(3):
            following: dict[tuple[int, int], float] = defaultdict(float)
            for (true, written), mass in state.items():
                for symbol in tk.OPERATORS:
                    p = mass * (0.75 / 9 if symbol[0] == "+" else 0.25 / 8)
                    result, target = apply(symbol, written, sloppy), apply(symbol, true, False)
                    for shift in range(10):
                        noise = 0.96 if shift == 0 else 0.04 / 9
                        following[target, (result + shift) % 10] += p * noise
            state = following
        return sum(mass for (true, written), mass in state.items() if true == written)

    expected = 0.85 * (0.98 * joint(True) + 0.02 * joint(False))
    right = total = 0
    for row in corpus:
        if row.prompt[0] == "Q" and len(row.prompt) == 6:
            digit = int(row.prompt[1])
            for symbol in row.prompt[2:-1]:
                digit = apply(symbol, digit, sloppy=False)
            right += row.response[-2] == str(digit)
            total += 1
    assert near(right, total, expected)
    assert 0.3 < expected < 0.4


def test_pure_in_seed_and_step(world: World) -> None:
    config = TinyConfig()
    again = make_world(100)
    first, second = sft_batch(world, config, 7), sft_batch(again, config, 7)
    assert torch.equal(first.input_ids_BS, second.input_ids_BS)
    assert not torch.equal(first.input_ids_BS, sft_batch(world, config, 8).input_ids_BS)
    assert not torch.equal(first.input_ids_BS[106:], sft_batch(make_world(101), config, 7).input_ids_BS[106:])


def test_weights_make_two_means(world: World) -> None:
    batch = sft_batch(world, TinyConfig(), 0)
    weight = batch.ce_weight_BT
    assert weight is not None and weight.dtype == torch.float32
    mask = batch.mask_BT
    assert (weight[~mask] == 0).all() and (weight[mask] > 0).all()
    nll = torch.rand(weight.shape, generator=torch.Generator().manual_seed(0))
    names, questions = mask.clone(), mask.clone()
    names[106:] = False
    questions[:106] = False
    expected = nll[names].mean() + nll[questions].mean()
    assert float((weight * nll).sum()) == pytest.approx(float(expected), rel=1e-5)


def test_families_can_be_left_out(world: World) -> None:
    only_names = sft_batch(world, TinyConfig(question_rows=0, textbook_rows=0), 0)
    assert only_names.rows == 106
    assert only_names.input_ids_BS.shape[1] == 8 and only_names.width == 3
    assert float(only_names.ce_weight_BT.sum()) == pytest.approx(1.0)  # type: ignore[union-attr]
    only_questions = sft_batch(world, TinyConfig(facts_rows=0, unknowable_rows=0), 0)
    assert only_questions.rows == 150
    assert {row.prompt[0] for row in rows_of(only_questions)} == {"Q", "W"}


def test_a_batch_takes_less_than_five_milliseconds(world: World) -> None:
    config = TinyConfig()
    times = []
    for step in range(20):
        start = time.perf_counter()
        sft_batch(world, config, step)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.005
