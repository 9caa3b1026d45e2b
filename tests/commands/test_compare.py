"""carerl.compare: the table against numbers worked out by hand, the page, and bad input."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from carerl.compare import main
from carerl.report.compare.comparison import Comparison
from carerl.report.compare.page import terminal_tables
from carerl.report.compare.pairs import gap_closed
from carerl.report.compare.rows import Row, short_labels
from carerl.report.compare.tables import difference_tables, notes
from carerl.runs.find import find_runs, read_run
from carerl.runs.jsonl import JsonlTracker
from carerl.runs.sweep_file import Cell, write_cells
from tests.report.test_run_page import check_page
from tests.runs.synthetic_runs import BASE, config, make_run, make_sweep

SEEDS = range(1, 6)
NONE_ACCURACY = (0.90, 0.92, 0.94, 0.96, 0.98)


def p_two_sided_4(t: float) -> float:
    """P(|T| > t) of Student's t with 4 degrees of freedom, in closed form."""
    u = t * t / 4
    return 1 - 0.75 * t / math.sqrt(1 + u) * (1 - t * t / (1 + u) / 12)


def make_pair(parent: Path, seeds: range = SEEDS) -> None:
    """none and care over five seeds. Differences care − none, seed by seed:

    accuracy −.10 −.11 −.12 −.13 −.14: mean −.12, sd .0158114, t = −.12 / (.0158114/√5) = −16.97
    ECE and F1: c + (−2 −1 0 1 2)/100 with c = 3.2·.01/√2, so that t = 3.2 (sd .01·√2.5, over √5 is .01/√2)
    """
    shift = 3.2 * 0.01 / math.sqrt(2)
    for i, seed in enumerate(seeds):
        none = {
            "eval/accuracy": NONE_ACCURACY[i % 5],
            "calibration/facts_ece": 0.1,
            "calibration/unknowable_f1": 0.2,
        }
        wiggle = shift + (i - 2) * 0.01
        care = {
            "eval/accuracy": NONE_ACCURACY[i % 5] - 0.10 - 0.01 * i,
            "calibration/facts_ece": 0.1 + wiggle,
            "calibration/unknowable_f1": 0.2 + wiggle,
        }
        base = {"eval/accuracy": 0.30 + 0.01 * i}
        make_run(parent, config("none_grpo_tiny", seed), none, base)
        make_run(parent, config("care_grpo_tiny", seed, "srkl", alpha=0.8), care, base)


def compare(parent: Path, baseline: str = "") -> Comparison:
    return Comparison.of([read_run(path) for path in find_runs([str(parent)])], baseline)


def by_label(comparison: Comparison) -> dict[str, Row]:
    return {row.label: row for row in comparison.rows}


def test_means_and_intervals_are_those_worked_out_by_hand(tmp_path: Path) -> None:
    make_pair(tmp_path)
    comparison = compare(tmp_path)
    assert [row.label for row in comparison.rows] == ["base", "none_grpo_tiny", "care_grpo_tiny"]
    cell = by_label(comparison)["none_grpo_tiny"].cells["eval/accuracy"]
    # mean of .90 .92 .94 .96 .98; sd = .02·√2.5; t(.975, 4) = 2.776445; half = 2.776445 · sd / √5
    assert cell.mean == pytest.approx(0.94)
    assert cell.half == pytest.approx(2.776445 * 0.02 * math.sqrt(2.5) / math.sqrt(5), rel=1e-6)
    # without spread there is no width
    assert by_label(comparison)["none_grpo_tiny"].cells["calibration/facts_ece"].half == pytest.approx(0, abs=1e-12)


def test_base_counts_each_seed_once(tmp_path: Path) -> None:
    make_pair(tmp_path)
    base = by_label(compare(tmp_path))["base"]
    assert len(base.runs) == 10
    cell = base.cells["eval/accuracy"]
    assert list(cell.values) == list(SEEDS) and cell.mean == pytest.approx(0.32)
    # sd of .30 … .34 is .01·√2.5: half the interval of a tenfold count would be far narrower
    assert cell.half == pytest.approx(2.776445 * 0.01 / math.sqrt(2), rel=1e-6)


def test_stars_are_holm_corrected_over_the_table(tmp_path: Path) -> None:
    """Three tests. The smallest p counts threefold and stays under .05; the two of t = 3.2 have p = .033
    each, would both be starred alone, and are not at 2 × .033."""
    make_pair(tmp_path)
    care = by_label(compare(tmp_path))["care_grpo_tiny"]
    small = p_two_sided_4(0.12 / (0.01 * math.sqrt(2.5) / math.sqrt(5)))
    marginal = p_two_sided_4(3.2)
    assert marginal == pytest.approx(0.0329, abs=1e-4)
    accuracy, ece = care.cells["eval/accuracy"], care.cells["calibration/facts_ece"]
    assert accuracy.difference == pytest.approx(-0.12) and accuracy.pairs == 5
    assert accuracy.p == pytest.approx(small, rel=1e-6) and accuracy.p_holm == pytest.approx(3 * small, rel=1e-6)
    assert accuracy.starred
    assert ece.p == pytest.approx(marginal, rel=1e-6) and ece.p_holm == pytest.approx(2 * marginal, rel=1e-6)
    assert not ece.starred and not care.cells["calibration/unknowable_f1"].starred
    assert not any(cell.starred for cell in by_label(compare(tmp_path))["none_grpo_tiny"].cells.values())


def test_pairs_are_by_seed_and_not_by_place(tmp_path: Path) -> None:
    """care has seeds 3 … 8, none 1 … 5: only 3, 4, 5 pair, and three pairs get no star."""
    for seed in range(1, 6):
        make_run(tmp_path, config("none", seed), {"eval/accuracy": 0.1 * seed})
    for seed in range(3, 9):
        make_run(tmp_path, config("care", seed, "srkl"), {"eval/accuracy": 0.1 * seed - 0.01 * (seed % 2)})
    comparison = compare(tmp_path)
    cell = by_label(comparison)["care"].cells["eval/accuracy"]
    assert cell.pairs == 3 and cell.difference == pytest.approx(-(0.01 + 0 + 0.01) / 3)
    assert cell.p is None and not cell.starred
    assert any("No stars: fewer than 5 seeds" in note for note in comparison.notes)


def test_four_seeds_get_no_star_however_clear(tmp_path: Path) -> None:
    for seed in range(1, 5):
        make_run(tmp_path, config("none", seed), {"eval/accuracy": 0.9 + 0.0001 * seed})
        make_run(tmp_path, config("care", seed, "srkl"), {"eval/accuracy": 0.1})
    assert not by_label(compare(tmp_path))["care"].cells["eval/accuracy"].starred


def test_no_spread_at_all_needs_no_t_statistic(tmp_path: Path) -> None:
    """The same difference at every seed: certain if it is not 0, none if it is."""
    for seed in SEEDS:
        make_run(tmp_path, config("none", seed), {"eval/accuracy": 0.5, "eval/maj": 0.5})
        make_run(tmp_path, config("care", seed, "srkl"), {"eval/accuracy": 0.25, "eval/maj": 0.5})
    cells = by_label(compare(tmp_path))["care"].cells
    assert cells["eval/accuracy"].starred and cells["eval/accuracy"].p == 0.0
    assert cells["eval/maj"].p == 1.0


T_95_4 = 2.131847  # the .95 quantile of Student's t with 4 degrees of freedom


def test_bounds_are_one_sided_and_on_the_side_that_speaks_against_the_row(tmp_path: Path) -> None:
    """make_pair: standard errors of .01/√2 throughout. Accuracy and F1 have lower bounds, ECE an upper one; the F1
    at t = 3.2 is above 0 with its bound, the ECE is worse and its upper bound worse still."""
    make_pair(tmp_path)
    comparison = compare(tmp_path)
    care = by_label(comparison)["care_grpo_tiny"]
    error, shift = 0.01 / math.sqrt(2), 3.2 * 0.01 / math.sqrt(2)
    bounds = {name: care.cells[name].bound for name in comparison.columns}
    assert bounds == pytest.approx(
        {
            "eval/accuracy": -0.12 - T_95_4 * error,
            "calibration/facts_ece": shift + T_95_4 * error,
            "calibration/unknowable_f1": shift - T_95_4 * error,
        },
        rel=1e-6,
    )
    (table,) = difference_tables(comparison)
    assert table.title == "Paired differences to none_grpo_tiny"
    assert table.head == ["method", "pairs", "accuracy ↑", "FACTS ECE ↓", "UNKNOWABLE F1 ↑"]
    accuracy, ece, f1 = "-0.120 (≥ -0.135)", "+0.023 (≤ +0.038)", "+0.023 (≥ +0.008) ✓"
    assert table.lines == [["care_grpo_tiny", "5", accuracy, ece, f1]]


def test_a_lower_error_is_an_improvement_when_its_upper_bound_is_below_0(tmp_path: Path) -> None:
    """Two seeds. Differences −.04 and −.05: −.045 ± t(.95, 1) · .005 with t = 6.314: the bound is −.0134. Entropy
    has no better side and no bound."""
    for seed, gain in ((1, 0.04), (2, 0.05)):
        before = {"calibration/facts_ece": 0.1, "eval/entropy": 0.1}
        after = {"calibration/facts_ece": 0.1 - gain, "eval/entropy": 0.1 + gain}
        make_run(tmp_path, config("none", seed), before)
        make_run(tmp_path, config("care", seed, "srkl"), after)
    comparison = compare(tmp_path)
    cells = by_label(comparison)["care"].cells
    assert cells["calibration/facts_ece"].bound == pytest.approx(-0.045 + 6.313752 * 0.005, rel=1e-6)
    assert cells["eval/entropy"].bound is None and cells["eval/entropy"].difference == pytest.approx(0.045)
    (table,) = difference_tables(comparison)
    assert [line[:3] for line in table.lines] == [["care", "2", "-0.045 (≤ -0.013) ✓"]]


def test_one_pair_has_no_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1, 2):
        make_run(tmp_path / "runs", config("none", seed), {"calibration/facts_ece": 0.1})
        make_run(tmp_path / "runs", config("care", seed + 1, "srkl"), {"calibration/facts_ece": 0.05})
    cell = by_label(compare(tmp_path / "runs"))["care"].cells["calibration/facts_ece"]
    assert (cell.pairs, cell.difference, cell.bound) == (1, None, None)
    assert main([str(tmp_path / "runs"), f"out={tmp_path / 'out'}"]) == 0
    written = [(tmp_path / "out" / f"compare.{ending}").read_text() for ending in ("md", "html")]
    assert all("Paired differences" not in text for text in (capsys.readouterr().out, *written))


def test_gap_closed_is_a_ratio_of_means_over_the_seeds_of_all_three(tmp_path: Path) -> None:
    """Seeds 1 and 2: baseline − row .04 + .01, baseline − base .08 + .04: .05/.12. (The mean of the ratios would
    be .375.) Seed 3 lacks the row and seed 4 the baseline."""
    base = {1: 0.02, 2: 0.08, 3: 0.01, 4: 0.01}
    none, care = {1: 0.10, 2: 0.12, 3: 0.90}, {1: 0.06, 2: 0.11, 4: 0.90}
    for recipe, regularizer, errors in (("none", "none", none), ("care", "srkl", care)):
        for seed, error in errors.items():
            final = {"calibration/facts_ece": error}
            make_run(tmp_path, config(recipe, seed, regularizer), final, {"calibration/facts_ece": base[seed]})
    comparison = compare(tmp_path)
    rows = by_label(comparison)
    assert rows["care"].gap_closed == pytest.approx(0.05 / 0.12) and rows["none"].gap_closed is None
    (table,) = difference_tables(comparison)
    assert (table.head[-1], table.lines[0][-1]) == ("ECE gap closed", "42 %")
    rows = by_label(compare(tmp_path, baseline="care"))
    assert rows["none"].gap_closed == pytest.approx(-0.05 / 0.07), "worse than the baseline: below 0"
    # a baseline that is no worse than the base has no gap, and one seed is none
    assert gap_closed({1: 0.1, 2: 0.1}, {1: 0.2, 2: 0.2}, {1: 0.2, 2: 0.2}) is None
    assert gap_closed({1: 0.1}, {1: 0.2}, {1: 0.0}) is None


def test_every_baseline_has_a_table_and_every_row_its_own_base(tmp_path: Path) -> None:
    """tiny: (.2 − .1)/(.2 − .0) = .5; small: (.2 − .1)/(.2 − .1) = 1."""
    for model, before in (("tiny", 0.0), ("small", 0.1)):
        for regularizer, error in (("none", 0.2), ("srkl", 0.1)):
            for seed in (1, 2):
                settings = config(f"{regularizer}_{model}", seed, regularizer)
                settings["model"]["base_recipe"] = model
                make_run(tmp_path, settings, {"calibration/facts_ece": error}, {"calibration/facts_ece": before})
    comparison = compare(tmp_path)
    titles = {table.title: table.lines[0][0] for table in difference_tables(comparison)}
    assert titles == {
        "Paired differences to none_tiny": "srkl_tiny",
        "Paired differences to none_small": "srkl_small",
    }
    rows = by_label(comparison)
    assert rows["srkl_tiny"].gap_closed == pytest.approx(0.5) and rows["srkl_small"].gap_closed == pytest.approx(1.0)


def test_the_note_on_the_perfect_model_has_the_runs_own_values(tmp_path: Path) -> None:
    """Means of .024 and .030 at 16 votes, and .052 alone at 8."""
    for seed, votes, floor in ((1, 16, 0.024), (2, 16, 0.030), (3, 8, 0.052)):
        settings = config("none", seed)
        settings["evaluation"]["samples"] = votes
        make_run(tmp_path, settings, {"calibration/facts_ece": 0.1, "calibration/facts_ece_floor": floor})
    make_run(tmp_path, config("none", 4), {"calibration/facts_ece": 0.1})
    (note,) = [note for note in notes(compare(tmp_path)) if "knows every probability" in note]
    assert note.endswith("scores about 0.027 with 16 votes, about 0.052 with 8 votes.")


def test_a_narrow_terminal_has_bounds_under_their_differences(tmp_path: Path) -> None:
    make_pair(tmp_path)
    comparison = compare(tmp_path)
    for width, lines in ((120, 1), (70, 2)):
        console = Console(width=width, file=io.StringIO())
        for table in terminal_tables(comparison, width):
            console.print(table)
        printed = console.file.getvalue()  # type: ignore[attr-defined]
        assert ("-0.120 (≥ -0.135)" in printed) is (lines == 1)
        assert "-0.120" in printed and "(≥ -0.135)" in printed
        assert max(map(len, printed.splitlines())) <= width


def test_one_recipe_with_two_settings_makes_two_rows_named_by_what_differs(tmp_path: Path) -> None:
    for estimator in ("full", "score"):
        for seed in (1, 2):
            settings = config("care_grpo_tiny", seed, "srkl", alpha=0.8, estimator=estimator)
            make_run(tmp_path, settings, {"eval/accuracy": 0.5}, suffix=estimator)
    make_run(tmp_path, config("none_grpo_tiny", 1), {"eval/accuracy": 0.5})
    labels = [row.label for row in compare(tmp_path).rows]
    assert labels == [
        "base",
        "none_grpo_tiny",
        "care_grpo_tiny · regularizer.estimator=full",
        "care_grpo_tiny · regularizer.estimator=score",
    ]
    assert short_labels(labels[1:]) == ["none", "care · estimator=full", "care · estimator=score"]


def test_arms_of_decisions_are_compared_with_the_run_that_trains_none_and_is_nearest(tmp_path: Path) -> None:
    arms = {
        "plain": ({"name": "none", "target": "paper"}, {"advantage_std": True}),
        "without_std": ({"name": "none", "target": "paper"}, {"advantage_std": False}),
        "paper": ({"name": "ce", "target": "paper"}, {"advantage_std": True}),
        "gold": ({"name": "ce", "target": "gold"}, {"advantage_std": True}),
    }
    for recipe, (decision, algorithm) in arms.items():
        for seed in SEEDS:
            settings = config(recipe, seed) | {"decision": decision}
            settings["algorithm"] |= algorithm
            make_run(tmp_path, settings, {"eval/accuracy": 0.5})
    rows = by_label(compare(tmp_path))
    found = {label: row.baseline for label, row in rows.items() if not row.is_base}
    assert found == {"plain": "", "without_std": "", "paper": "plain", "gold": "plain"}


def test_a_baseline_is_chosen_by_name_and_among_its_own_algorithm(tmp_path: Path) -> None:
    for algorithm in ("grpo", "dapo"):
        for regularizer in ("none", "srkl"):
            for seed in SEEDS:
                settings = config(f"{regularizer}_{algorithm}", seed, regularizer)
                settings["algorithm"]["name"] = algorithm
                make_run(tmp_path, settings, {"eval/accuracy": 0.5})
    rows = by_label(compare(tmp_path))
    assert rows["srkl_grpo"].baseline == "none_grpo" and rows["srkl_dapo"].baseline == "none_dapo"
    rows = by_label(compare(tmp_path, "srkl_dapo"))
    assert {label: row.baseline for label, row in rows.items() if not row.is_base} == {
        "none_grpo": "srkl_dapo",
        "none_dapo": "srkl_dapo",
        "srkl_grpo": "srkl_dapo",
        "srkl_dapo": "",
    }


def test_a_seed_run_twice_counts_once_and_the_later_run_is_taken(tmp_path: Path) -> None:
    make_run(tmp_path, config("none", 1), {"eval/accuracy": 0.1}, stamp="20261121-100000")
    make_run(tmp_path, config("none", 1), {"eval/accuracy": 0.9}, stamp="20261121-110000")
    make_run(tmp_path, config("none", 2), {"eval/accuracy": 0.7})
    comparison = compare(tmp_path)
    assert by_label(comparison)["none"].cells["eval/accuracy"].values == {1: 0.9, 2: 0.7}
    ((name, reason),) = comparison.left_out
    assert "100000" in name and "same settings and seed" in reason and "110000" in reason


def test_bases_of_different_models_are_different_rows(tmp_path: Path) -> None:
    for model in ("base_tiny", "base_small"):
        settings = config(f"none_{model}", 1)
        settings["model"]["base_recipe"] = model
        make_run(tmp_path, settings, {"eval/accuracy": 0.9}, {"eval/accuracy": 0.3 if model == "base_tiny" else 0.4})
    rows = by_label(compare(tmp_path))
    assert rows["base · model.base_recipe=base_tiny"].cells["eval/accuracy"].mean == 0.3
    assert rows["base · model.base_recipe=base_small"].cells["eval/accuracy"].mean == 0.4


def test_command_writes_table_page_csv_and_markdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_pair(tmp_path / "runs")
    make_run(tmp_path / "runs", config("care_grpo_tiny", 6, "srkl", alpha=0.8), None, suffix="dead")
    out = tmp_path / "out"
    assert main([str(tmp_path / "runs"), f"out={out}"]) == 0
    printed = capsys.readouterr().out
    assert "0.940 ± 0.039" in printed and "0.820 ± 0.020*" in printed
    assert "Paired differences to none_grpo_tiny" in printed and "+0.023 (≥ +0.008) ✓" in printed
    assert "one-sided 95 % Student bound" in printed
    assert "left out: care_grpo_tiny-s6-20261121-100000-dead (no summary.json" in printed

    markdown = (out / "compare.md").read_text()
    assert "| method | n | accuracy | FACTS ECE | UNKNOWABLE F1 |" in markdown
    assert "| none_grpo_tiny [b] | 5 | 0.940 ± 0.039 | 0.100 ± 0.000 | 0.200 ± 0.000 |" in markdown
    assert "| care_grpo_tiny [c] | 5 | 0.820 ± 0.020\\* | 0.123 ± 0.020 | 0.223 ± 0.020 |" in markdown
    assert "| base [a] | 5 | 0.320 ± 0.020 | – | – |" in markdown
    assert "| care_grpo_tiny [c, b] | 5 | -0.120 (≥ -0.135) | +0.023 (≤ +0.038) | +0.023 (≥ +0.008) ✓ |" in markdown

    with open(out / "compare.csv", newline="") as file:
        rows = {(row["method"], row["metric"]): row for row in csv.DictReader(file)}
    row = rows["care_grpo_tiny", "eval/accuracy"]
    assert (row["n"], row["starred"], row["baseline"], row["pairs"]) == ("5", "1", "none_grpo_tiny", "5")
    assert float(row["difference"]) == pytest.approx(-0.12) and row["gap_closed"] == ""
    assert float(row["bound"]) == pytest.approx(-0.12 - T_95_4 * 0.01 / math.sqrt(2), rel=1e-6)
    assert rows["none_grpo_tiny", "eval/accuracy"]["bound"] == ""
    assert float(row["mean"]) == pytest.approx(0.82) and row["seeds"] == "1 2 3 4 5"
    assert [float(value) for value in row["values"].split()] == pytest.approx([0.80, 0.81, 0.82, 0.83, 0.84])
    assert row["runs"].split()[0] == "care_grpo_tiny-s1-20261121-100000-ab12"

    text = (out / "compare.html").read_text()
    page = check_page(text)
    words = " ".join(" ".join(page.text).split())
    assert page.tags["svg"] == 2  # against FACTS ECE and F1; these runs have no answer ECE
    assert "Holm-corrected over the 3 tests" in words
    assert "care_grpo_tiny 5 -0.120 (≥ -0.135) +0.023 (≤ +0.038) +0.023 (≥ +0.008) ✓" in words
    assert "care_grpo_tiny; code unknown; 5 runs, seeds 1–5" in words
    assert "FACTS: facts with known true answer probabilities" in words
    # every number of a cell leads to its runs
    assert page.references.count("group-2") == 4 + 5 and "group-2" in page.ids  # the label and 3; 5 of differences
    for seed in SEEDS:
        assert f"care_grpo_tiny-s{seed}-20261121-100000-ab12" in words
    assert "care_grpo_tiny-s6-20261121-100000-dead" in words


def test_a_sweep_of_six_methods_makes_the_same_page_twice(tmp_path: Path) -> None:
    make_sweep(tmp_path / "runs", range(1000, 1005))
    arguments = [str(tmp_path / "runs" / "*"), f"out={tmp_path / 'out'}"]
    assert main(arguments) == 0
    first = (tmp_path / "out" / "compare.html").read_bytes()
    assert main(arguments) == 0
    assert (tmp_path / "out" / "compare.html").read_bytes() == first
    page = check_page(first.decode())
    # four against accuracy; at equal beta, and at matched divergence, two panels in one each
    assert page.tags["svg"] == 6
    texts = [text.strip() for text in page.text]
    # every group is named in every picture of accuracy, the base too; rkl's two betas are points of one curve
    assert texts.count("care · estimator=score") == 4 + 2 + 1  # the last in the table at matched divergence
    assert texts.count("fkl_tuned") == 4 + 2 + 1 + 2 + 1  # also at equal beta
    assert texts.count("rkl β=0.2") == 4 + 2 and "rkl_tuned" not in texts
    assert "maj@16" in page.text
    with open(tmp_path / "out" / "compare.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    gaps = {line["method"]: float(line["gap_closed"]) for line in lines if line["gap_closed"]}
    assert len(gaps) == 5 and {line["metric"] for line in lines if line["gap_closed"]} == {"calibration/facts_ece"}
    assert any(line["metric"] == "calibration/question_ece" and line["bound"] for line in lines)


ALPHAS = {"0": (0.35, 0.03, 0.1), ".5": (0.44, 0.04, 1.0), ".8": (0.95, 0.05, 4.0), ".95": (0.99, 0.08, 6.0)}


def make_alpha_sweep(sweep: Path) -> None:
    """Four alphas over two seeds, ±.01 around a mean, evaluated in between. Of two more cells one failed, and one was
    never reached."""
    cells = []
    for seed in (100, 101):
        sign = 1 if seed == 100 else -1
        for alpha, (accuracy, error, divergence) in ALPHAS.items():
            settings = config("care_grpo_tiny", seed, "srkl", alpha=float(alpha), beta=3.0, estimator="full")
            final = {
                "eval/accuracy": accuracy + 0.01 * sign,
                "calibration/facts_ece": error + 0.001 * sign,
                "calibration/unknowable_f1": 1 - accuracy,
                "eval/kl_per_sequence": divergence,
            }
            run = make_run(sweep, settings, final, suffix=alpha.strip("."))
            cells.append(Cell(run, "recipe=care_grpo_tiny", {"regularizer.alpha": alpha, "seed": str(seed)}))
            tracker = JsonlTracker(run / "metrics.jsonl")
            for step in range(5):
                if step:
                    tracker.log(step, {"rollout/generated_tokens": 1000.0, "rollout/accuracy": 0.3 + step / 10})
                tracker.log(step, {"eval/accuracy": 0.3 + (accuracy - 0.3) * step / 4, "calibration/facts_ece": error})
            tracker.close()
    settings = config("care_grpo_tiny", 102, "srkl", alpha=0.8, beta=3.0, estimator="full")
    failed, never = make_run(sweep, settings, {}, status="failed", suffix="8"), sweep / "cell-never"
    (failed / "error.txt").write_text("RuntimeError: out of memory\n\nTraceback …\n")
    for directory, seed in ((failed, "102"), (never, "103")):
        cells.append(Cell(directory, "recipe=care_grpo_tiny", {"regularizer.alpha": ".8", "seed": seed}))
    write_cells(sweep, cells)


def test_a_sweep_over_alpha_is_a_frontier_and_says_what_is_absent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_alpha_sweep(tmp_path / "sweep")
    # seeds 100 to 103 of alpha .8 were asked for
    for seed in (100, 101):
        for beta, accuracy, divergence in ((3.0, 0.36, 0.2), (0.2, 0.90, 4.2)):
            settings = config(f"rkl{'' if beta == 3 else '_tuned'}_grpo_tiny", seed, "rkl", beta=beta, estimator="full")
            final = {"eval/accuracy": accuracy, "calibration/facts_ece": 0.06, "eval/kl_per_sequence": divergence}
            make_run(tmp_path / "sweep", settings, final)
    assert main([str(tmp_path / "sweep"), f"out={tmp_path / 'out'}"]) == 0
    printed = capsys.readouterr().out
    words = "recipe=care_grpo_tiny regularizer.alpha=.8 seed="
    assert f"absent: {words}102 (failed: RuntimeError: out of memory)" in printed
    assert f"absent: {words}103 (not run)" in printed
    assert "left out" not in printed, "once is enough"

    text = (tmp_path / "out" / "compare.md").read_text()
    assert "| care_grpo_tiny · regularizer.alpha=0.8 [d] | 2 of 4 | 0.950 ± 0.127 |" in text
    assert "| care_grpo_tiny · regularizer.alpha=0.5 [c] | 2 | 0.440 ± 0.127 |" in text
    # care reaches .1 to 6 nats and rkl .2 to 4.2: at 2.2, where care is .44 + .51 · 1.2/3 and rkl .36 + .54 · 2/4
    assert "**At matched divergence: 2.2 nats per sequence**" in text
    assert "| care [b, c, d, e] | 0.644 ± 0.127 | 0.044 ± 0.013 |" in text and "| rkl [f, g] | 0.630 ± 0.000 |" in text
    # 4 steps of 1,000 tokens; rkl logged none
    assert "**At matched generated tokens: 4,000**" in text
    assert "| care_grpo_tiny · regularizer.alpha=0.8 [d] | 2 | 0.950 ± 0.000 | 0.050 ± 0.000 |  |" in text
    assert "| rkl_grpo_tiny [g] | – | – | – | no tokens in metrics.jsonl |" in text
    assert "| care α=0.8 [d] | 3 | 2 | 0.950 ± 0.127 |" in text and "| rkl [g] | 3 | 2 | 0.360 ± 0.000 |" in text

    page = check_page((tmp_path / "out" / "compare.html").read_text())
    texts = [text.strip() for text in page.text]
    for title in ("At equal beta", "At matched divergence", "At matched generated tokens", "Absent cells"):
        assert title in texts
    assert texts.count("care α=0") >= 3  # the pictures of ECE and F1, and of the divergence
    assert f"{words}102" in texts and "failed: RuntimeError: out of memory" in texts
    with open(tmp_path / "out" / "compare.csv", newline="") as file:
        places = {(row["method"], row["family"], row["alpha"], row["beta"]) for row in csv.DictReader(file)}
    assert ("care_grpo_tiny · regularizer.alpha=0.95", "0", "0.95", "3.0") in places
    assert ("rkl_tuned_grpo_tiny", "1", "", "0.2") in places and ("base", "", "", "") in places


def test_a_broken_sweep_file_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_pair(tmp_path)
    (tmp_path / "sweep.json").write_text("{}")
    assert main([str(tmp_path), f"out={tmp_path / 'out'}"]) == 2
    assert "sweep.json: does not list a sweep's cells" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/nowhere"], "no such file or directory"),
        (["{tmp}/empty"], "no run found there"),
        (["{tmp}/dead"], "no finished run among 1 found (care-s1-20261121-100000-ab12: no summary.json"),
        (["{tmp}/runs", "baseline=rlk"], "baseline=rlk: no such row; the rows are none, care"),
    ],
)
def test_bad_input_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    make_run(tmp_path / "runs", config("none", 1), dict(BASE))
    make_run(tmp_path / "runs", config("care", 1, "srkl"), dict(BASE))
    make_run(tmp_path / "dead", config("care", 1), None)
    (tmp_path / "empty").mkdir()
    assert main([argument.format(tmp=tmp_path) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and message in captured.err
    assert captured.err.startswith("compare: ") and captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "field", "message"),
    [
        ([], "RUN…", "write carerl compare RUN…"),
        (["runs", "ouput=x"], "ouput = x", "did you mean out=?"),
        (["runs", "--fast"], "--fast", "no such option; it has out=, baseline="),
        (["runs", "out=file"], "out = file", "is a file, and a directory is wanted"),
    ],
)
def test_words_that_make_no_sense_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str],
    field: str, message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith(f"{field} is refused") and message in captured.err


def test_help_names_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert "out=DIR" in printed and "baseline=NAME" in printed


def test_one_seed_has_no_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    final: dict[str, Any] = {"eval/accuracy": 0.5, "calibration/facts_ece": 0.03}
    make_run(tmp_path / "runs", config("none", 1), final)
    assert main([str(tmp_path / "runs"), f"out={tmp_path / 'out'}"]) == 0
    assert "| none [b] | 1 | 0.500 |" in (tmp_path / "out" / "compare.md").read_text()
    check_page((tmp_path / "out" / "compare.html").read_text())
