"""carerl.compare: the table against numbers worked out by hand, the page, and bad input."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pytest

from carerl.compare import main
from carerl.report.comparison import Comparison, Row, compare_runs, short_labels
from carerl.report.run_files import find_runs, read_run
from tests.report.synthetic_runs import BASE, config, make_run, make_sweep
from tests.report.test_html import check_page

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
    return compare_runs([read_run(path) for path in find_runs([str(parent)])], baseline)


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
    assert "left out: care_grpo_tiny-s6-20261121-100000-dead (no summary.json" in printed

    markdown = (out / "compare.md").read_text()
    assert "| method | n | accuracy | FACTS ECE | UNKNOWABLE F1 |" in markdown
    assert "| none_grpo_tiny | 5 | 0.940 ± 0.039 | 0.100 ± 0.000 | 0.200 ± 0.000 |" in markdown
    assert "| care_grpo_tiny | 5 | 0.820 ± 0.020\\* | 0.123 ± 0.020 | 0.223 ± 0.020 |" in markdown
    assert "| base | 5 | 0.320 ± 0.020 | – | – |" in markdown

    with open(out / "compare.csv", newline="") as file:
        rows = {(row["method"], row["metric"]): row for row in csv.DictReader(file)}
    row = rows["care_grpo_tiny", "eval/accuracy"]
    assert (row["n"], row["starred"], row["baseline"], row["pairs"]) == ("5", "1", "none_grpo_tiny", "5")
    assert float(row["mean"]) == pytest.approx(0.82) and row["seeds"] == "1 2 3 4 5"
    assert [float(value) for value in row["values"].split()] == pytest.approx([0.80, 0.81, 0.82, 0.83, 0.84])
    assert row["runs"].split()[0] == "care_grpo_tiny-s1-20261121-100000-ab12"

    text = (out / "compare.html").read_text()
    page = check_page(text)
    words = " ".join(" ".join(page.text).split())
    assert page.tags["svg"] == 2  # against FACTS ECE and F1; these runs have no answer ECE
    assert "Holm-corrected over the 3 tests" in words
    # every number of a cell leads to its runs
    assert page.references.count("group-2") == 4 and "group-2" in page.ids
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
    assert page.tags["svg"] == 3
    # every group is named in every picture, the base too
    assert [text.strip() for text in page.text].count("care · estimator=score") == 3
    assert [text.strip() for text in page.text].count("rkl_tuned") == 3
    assert "maj@16" in page.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name at least one run"),
        (["{tmp}/nowhere"], "no such file or directory"),
        (["{tmp}/empty"], "no run found there"),
        (["{tmp}/dead"], "no finished run among 1 found (care-s1-20261121-100000-ab12: no summary.json"),
        (["{tmp}/runs", "baseline=rlk"], "baseline=rlk: no such row; the rows are none, care"),
        (["{tmp}/runs", "ouput=x"], "ouput=x: unknown option; there are out=, baseline="),
        (["{tmp}/runs", "--fast"], "--fast: unknown option"),
        (["{tmp}/runs", "out={tmp}/file"], "is a file; give a directory"),
    ],
)
def test_bad_input_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    make_run(tmp_path / "runs", config("none", 1), dict(BASE))
    make_run(tmp_path / "runs", config("care", 1, "srkl"), dict(BASE))
    make_run(tmp_path / "dead", config("care", 1), None)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert main([argument.format(tmp=tmp_path) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and message in captured.err
    assert captured.err.startswith("compare: ") and captured.err.count("\n") == 1


def test_help_names_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert "out=DIR" in printed and "baseline=NAME" in printed


def test_one_seed_has_no_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    final: dict[str, Any] = {"eval/accuracy": 0.5, "calibration/facts_ece": 0.03}
    make_run(tmp_path / "runs", config("none", 1), final)
    assert main([str(tmp_path / "runs"), f"out={tmp_path / 'out'}"]) == 0
    assert "| none | 1 | 0.500 |" in (tmp_path / "out" / "compare.md").read_text()
    check_page((tmp_path / "out" / "compare.html").read_text())
