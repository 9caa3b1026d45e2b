"""The entry points: all names, their values from the single functions, and paired differences."""

from __future__ import annotations

import numpy as np
import pytest

from carerl.calibration import (
    Judged,
    accuracy_at_coverage,
    aurc,
    auroc,
    brier,
    debiased_ece,
    ece,
    labels_floor,
    majority,
    mce,
    measure,
    nll,
    observed_answers,
    paired_differences,
)
from tests.calibration.worlds import WORLDS, World

NAMES = [
    "accuracy",
    "confidence",
    "overconfidence",
    "ece",
    "ece_debiased",
    "ece_count",
    "ece_count_debiased",
    "ece_unique",
    "mce",
    "brier",
    "brier_reliability",
    "brier_resolution",
    "brier_uncertainty",
    "nll",
    "auroc",
    "aurc",
    "accuracy_at_80",
    "ece_floor_labels",
    "ece_floor_votes",
]


def answers_of_questions(questions: int, seed: int) -> tuple[dict[str, list[str | None]], dict[str, list[bool]]]:
    rng = np.random.default_rng(seed)
    names, weights = ["1", "2", "3", None], [2, 1, 1, 0.2]
    answers = {f"q{k}": list(rng.choice(names, 16, p=rng.dirichlet(weights))) for k in range(questions)}
    return answers, {key: [a == "1" for a in found] for key, found in answers.items()}


def test_names_are_stable_and_values_those_of_the_single_functions():
    c, y, q = WORLDS["clusters"].draw(np.random.default_rng(0), 400)
    found = measure(c, y, q, coverages=(0.8,), repeats=200)
    assert list(found) == NAMES
    expected = {
        "accuracy": y.mean(),
        "confidence": c.mean(),
        "overconfidence": c.mean() - y.mean(),
        "ece": ece(c, y),
        "ece_count": ece(c, y, scheme="count"),
        "ece_debiased": debiased_ece(c, y, q).value,
        "mce": mce(c, y),
        "brier": brier(c, y),
        "nll": nll(c, y),
        "auroc": auroc(c, y),
        "aurc": aurc(c, y),
        "accuracy_at_80": accuracy_at_coverage(c, y, 0.8),
    }
    assert {name: found[name].value for name in expected} == pytest.approx(expected)
    without = {name for name, e in found.items() if np.isnan(e.low)}
    parts = {"brier_reliability", "brier_resolution", "brier_uncertainty"}
    assert without == {"ece", "ece_count", "ece_unique", "mce", "ece_floor_votes"} | parts
    assert all(e.low <= e.value <= e.high for name, e in found.items() if name not in without)
    assert measure(c, y, q, repeats=200)["nll"] == found["nll"], "a function of its arguments"
    assert list(measure(c, y, q, coverages=(0.5, 0.995), repeats=50))[16:18] == ["accuracy_at_50", "accuracy_at_99.5"]


def test_majority_votes_get_both_floors():
    answers, correct = answers_of_questions(80, 1)
    votes = {key: majority(found, key, 0) for key, found in answers.items()}
    share = [share for _, share in votes.values()]
    right = [
        float(any(is_right for answer, is_right in zip(answers[key], correct[key], strict=True) if answer == winner))
        for key, (winner, _) in votes.items()
    ]
    rows = Judged(np.array(share), np.array(right), tuple(answers), np.arange(len(answers)), votes=16)
    found = measure(
        rows.confidence,
        rows.correct,
        rows.questions,
        votes=rows.votes,
        table=observed_answers(list(answers.values())),
        repeats=50,
    )
    floor = labels_floor(rows.confidence, np.random.default_rng(9), 4000)
    assert found["ece_floor_labels"].value == pytest.approx(floor.mean, abs=0.01)
    assert 0.03 < found["ece_floor_votes"].value < 0.2
    assert found["ece_unique"].value == ece(rows.confidence, rows.correct, scheme="unique")
    assert found["nll"].value == pytest.approx(nll(rows.confidence, rows.correct, 1 / 32))
    with pytest.raises(ValueError, match="80 rows"):
        measure(rows.confidence[:-1], rows.correct[:-1], votes=16, table=observed_answers(list(answers.values())))


def test_a_perfect_model_lies_within_its_floor():
    c, y, _ = WORLDS["calibrated"].draw(np.random.default_rng(3), 1000)
    found = measure(c, y, repeats=50)
    assert found["ece"].value in found["ece_floor_labels"]
    over = measure(*WORLDS["overconfident"].draw(np.random.default_rng(3), 1000)[:2], repeats=50)
    assert over["ece"].value > 2 * over["ece_floor_labels"].high and over["overconfidence"].low > 0


def test_known_probabilities_instead_of_labels():
    c = np.linspace(0.3, 0.9, 50)
    found = measure(c, c, repeats=50)
    assert found["ece"].value == pytest.approx(0) and found["accuracy"].value == pytest.approx(c.mean())
    assert np.isnan(found["auroc"].value) and np.isnan(found["ece_floor_labels"].value)


@pytest.mark.parametrize(("c", "y"), [([], []), ([0.7], [1]), ([0.0, 1.0, 1.0], [0, 1, 1]), ([0.5] * 20, [1] * 20)])
def test_small_and_degenerate_data(c, y):
    found = measure(c, y, repeats=50)
    assert list(found) == NAMES
    assert all(not np.isnan(found[n].value) for n in ("accuracy", "ece", "nll", "aurc")) or not c


def rows_of(c, y, q, seed=None) -> Judged:
    order = np.arange(len(c)) if seed is None else np.random.default_rng(seed).permutation(len(c))
    return Judged(c[order], y[order], tuple(f"q{k}" for k in q[order]), np.arange(len(c)))


def test_paired_differences_have_the_values_of_the_two_runs_and_turn_with_them():
    draw = WORLDS["clusters"].draw
    a, b = rows_of(*draw(np.random.default_rng(0), 400)), rows_of(*draw(np.random.default_rng(1), 400), seed=2)
    found, turned = paired_differences(a, b, repeats=300), paired_differences(b, a, repeats=300)
    single = [measure(r.confidence, r.correct, r.questions, repeats=50) for r in (a, b)]
    for name, e in found.items():
        assert e.value == pytest.approx(single[0][name].value - single[1][name].value, abs=1e-9), name
        assert e.low <= e.value <= e.high
        assert turned[name].value == pytest.approx(-e.value)
        assert turned[name].low == pytest.approx(-e.high, abs=0.15 * (e.high - e.low))


def test_a_run_against_itself_differs_by_nothing_but_is_not_certain():
    a = rows_of(*WORLDS["votes"].draw(np.random.default_rng(0), 200))
    found = paired_differences(a, a, repeats=50)
    assert all(e.value == 0 for e in found.values())
    assert found["brier"].low == found["brier"].high == 0
    assert -0.03 < found["accuracy"].low < 0 < found["accuracy"].high < 0.03


def test_pairing_narrows_what_two_independent_intervals_would_give():
    """The same questions, a little noise in one: a difference of .02 in Brier is seen."""
    c, y, q = WORLDS["calibrated"].draw(np.random.default_rng(0), 500)
    worse = np.clip(c + np.random.default_rng(1).normal(0, 0.15, 500), 0, 1)
    found = paired_differences(rows_of(worse, y, q), rows_of(c, y, q), repeats=300)["brier"]
    alone = [measure(x, y, q, repeats=300)["brier"] for x in (worse, c)]
    assert found.low > 0
    assert found.high - found.low < 0.6 * np.hypot(*(e.high - e.low for e in alone))


def test_other_questions_are_refused():
    a, b = (rows_of(*WORLDS["votes"].draw(np.random.default_rng(0), n)) for n in (20, 21))
    with pytest.raises(ValueError, match=r"1 are in one only \['q20'\]"):
        paired_differences(a, b)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_paired_intervals_cover():
    """Two models of one world, one overconfident, sharing p and half of their labels' noise; 300 repetitions at n =
    300, so that 4 points are three standard errors. ECE has no target."""
    truth_a, truth_b = World((5, 2)), World((5, 2), sharpness=3)
    rng = np.random.default_rng(0)
    hits: dict[str, int] = {}

    def draw(n: int):
        p = rng.beta(5, 2, n)
        uniform = rng.random(n)
        other = np.where(rng.random(n) < 0.5, uniform, rng.random(n))
        c = np.clip(p, 1e-9, 1 - 1e-9)
        over = c**3 / (c**3 + (1 - c) ** 3)
        q = np.arange(n)
        return rows_of(c, (uniform < p).astype(float), q), rows_of(over, (other < p).astype(float), q)

    metrics = {"accuracy": lambda c, y: y.mean(), "brier": brier, "nll": nll, "auroc": auroc, "ece_debiased": ece}
    truth = {n: truth_a.truth(f) - truth_b.truth(f) for n, f in metrics.items()}
    for _ in range(300):
        a, b = draw(300)
        found = paired_differences(a, b, repeats=200, coverages=())
        for name in metrics:
            hits[name] = hits.get(name, 0) + (truth[name] in found[name])
    assert all(hits[name] >= (0.82 if name == "ece_debiased" else 0.91) * 300 for name in metrics), hits
