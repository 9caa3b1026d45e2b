"""The tiny world's study of anchors: rows of its runs, and its bars, which were set before it was run.

    python -m tests.benchmarks.anchor_study rows sweeps/anchors_tiny … >> recipes/results/anchors_tiny.jsonl
    python -m tests.benchmarks.anchor_study forecast recipes/results/anchors_tiny.jsonl 100-103
    python -m tests.benchmarks.anchor_study bars recipes/results/anchors_tiny.jsonl 2000-2007

``rows`` prints a line of JSON for each finished run. ``forecast`` prints, from development seeds, how wide the bounds
will be on eight seeds. ``table`` prints the arms of the named seeds; ``bars`` prints them, and each bar with its figure
and whether it was met. The three tests of the family are one-sided and paired over seeds, corrected by Holm's method.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from carerl.calibration import PairedTest, holm
from carerl.runs.jsonl import read_metrics
from tests.benchmarks.study_rows import (
    Commands,
    Rows,
    arm_table,
    average,
    expected_width,
    finished,
    paired,
    row_of,
    unfinished,
)

SEEDS = 8  # of the confirmation
LEVEL = 0.05  # of the family
NONE, CARE, ANCHOR = "GRPO", "GRPO, srkl 4", "GRPO, names 1"
EQUAL = "GRPO, srkl 1"  # CARE at the accuracy of anchors
ON_ALL_SEEDS = (NONE, CARE, EQUAL, "GRPO, fkl 0.13", ANCHOR, "GRPO, textbook 1", "GRPO, srkl 1, names 1")
ON_SOME = ("DAPO", "DAPO, srkl 7", "DAPO, names 1")
FAMILY = {  # test -> figure, arm, other, what is added to arm - other, sign of the figure
    "accuracy, anchors not lower than none by .05": ("accuracy", ANCHOR, NONE, 0.05, 1),
    "FACTS ECE, anchors lower than CARE at equal accuracy": ("ECE", ANCHOR, EQUAL, 0.0, -1),
    "UNKNOWABLE F1, anchors higher than CARE at equal accuracy": ("F1", ANCHOR, EQUAL, 0.0, 1),
}
KEPT = ("eval/accuracy", "eval/accuracy_k2", "eval/accuracy_k4", "eval/maj", "eval/entropy", "eval/kl_per_sequence",
        "calibration/facts_ece", "calibration/facts_ece_floor", "calibration/answer_ece", "calibration/question_ece",
        "calibration/unknowable_f1")  # fmt: skip
SUMMED = ("train/tokens", "anchor/tokens", "rollout/generated_tokens", "time/step", "time/train", "time/anchors")
SHOWN = {
    "accuracy": "eval/accuracy",
    "ECE": "calibration/facts_ece",
    "F1": "calibration/unknowable_f1",
    "k=2": "eval/accuracy_k2",
    "k=4": "eval/accuracy_k4",
    "entropy": "eval/entropy",
    "question ECE": "calibration/question_ece",
    "KL": "eval/kl_per_sequence",
}
COSTS = ("train/tokens", "anchor/tokens", "time/step", "time/train")


def arm_of(config: Mapping[str, Any]) -> str:
    """Returns the name of a run's arm, by its settings: algorithm, penalty and beta, source of anchors and weight."""
    parts = [str(config["algorithm"]["name"]).upper()]
    if (penalty := config["regularizer"])["name"] != "none":
        parts.append(f"{penalty['name']} {penalty['beta']:g}")
    if (anchor := config["anchor"])["name"] != "none":
        parts.append(f"{anchor['source']} {anchor['weight']:g}")
        parts += [f"pool {anchor['pool']}"] if anchor["pool"] else []
        parts += [] if anchor["divergence"] == "fkl" else [str(anchor["divergence"])]
        parts += [] if anchor["per_step"] == 64 else [f"{anchor['per_step']} a step"]
    parts += [] if config["steps"] == 200 else [f"{config['steps']} steps"]
    return ", ".join(parts)


def rows(paths: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yields a row for each finished run below the paths."""
    for run, summary, config in finished(paths):
        row = row_of(arm_of(config), run, summary, config)
        facts = row["shared"]["task"].pop("evaluation_facts")
        logged = list(read_metrics(run.path / "metrics.jsonl"))
        yield {
            **row,
            "own": {name: config[name] for name in ("steps", "algorithm", "regularizer", "anchor")}
            | {"evaluation_facts": facts},
            "base": {name: value for name, value in summary["base"].items() if name in KEPT},
            "final": {name: value for name, value in summary["final"].items() if name in KEPT},
            "cost": {name: sum(line.get(name, 0.0) for line in logged) / summary["steps"] for name in SUMMED},
        }


class Study(Rows):
    """Holds the rows of some seeds, with the figures of this study."""

    def values(self, arm: str, figure: str, part: str = "final") -> dict[int, float]:
        """Returns a figure of an arm by seed; a figure of the base model with the part ``base``."""
        return self.figure(arm, SHOWN[figure], part)


def table(study: Study) -> Iterator[str]:
    """Yields the tables of arms, with what a step costs, and the comparisons."""
    yield from arm_table(study, SHOWN)
    yield ""
    yield "| a step of | " + " | ".join(COSTS) + " |"
    yield "|---|" + "--:|" * len(COSTS)
    for arm in study.by_arm:
        yield f"| {arm} | " + " | ".join(f"{average(study.figure(arm, name, 'cost')):.4g}" for name in COSTS) + " |"
    yield from ("", *comparisons(study), "")


def tested(study: Study, name: str) -> PairedTest:
    """Tests a difference of the family over its seeds: above 0 is what is hoped for."""
    figure, arm, other, added, sign = FAMILY[name]
    ours = {seed: sign * value + added for seed, value in study.values(arm, figure).items()}
    return paired(ours, {seed: sign * value for seed, value in study.values(other, figure).items()})


def one_sided(test: PairedTest) -> float:
    """Returns the p-value of a difference above 0; 1 where a figure is not a number."""
    if not math.isfinite(test.p_value):
        return 1.0
    return test.p_value / 2 if test.difference > 0 else 1 - test.p_value / 2


def bars(study: Study) -> Iterator[tuple[str, str, bool]]:
    """Yields each bar: what it asks, what was found, and whether it was met. A figure that is not a number misses."""
    yield from unfinished(study, ON_ALL_SEEDS)
    base = {figure: average(study.values(NONE, figure, "base")) for figure in SHOWN}
    error, f1 = (average(study.values(ANCHOR, figure)) for figure in ("ECE", "F1"))
    yield (
        "anchors: mean FACTS ECE at most the base's + .015",
        f"{error:.3f}, base {base['ECE']:.3f}",
        error <= base["ECE"] + 0.015,
    )
    yield (
        "anchors: mean UNKNOWABLE F1 at least the base's - .05",
        f"{f1:.3f}, base {base['F1']:.3f}",
        (f1 >= base["F1"] - 0.05),
    )
    tests = {name: tested(study, name) for name in FAMILY}
    corrected = holm([one_sided(test) for test in tests.values()])
    for (name, test), p in zip(tests.items(), corrected, strict=True):
        added = FAMILY[name][3]
        said = f"by {test.difference - added:+.4f}, one-sided 95 % bound {test.lower_bound - added:+.4f} uncorrected"
        yield f"{name} (Holm over {len(FAMILY)})", f"{said}, corrected p {p:.4f}", bool(p < LEVEL)


def forecast(study: Study) -> Iterator[str]:
    """Yields how far the bounds of the confirmation will lie from the differences, if these spread as here."""
    for name in FAMILY:
        test, n = tested(study, name), len(study.seeds)
        found = test.difference - FAMILY[name][3]
        width = expected_width(test, n, SEEDS)
        yield f"{name}: {found:+.4f} on {n} seeds; expected distance of the bound on {SEEDS}: {width:.4f}"


def comparisons(study: Study) -> Iterator[str]:
    """Yields each arm's paired differences from anchors of the same family, and their p-values as they are: not
    corrected for their number."""
    for arm in study.by_arm:
        for figure in ("accuracy", "ECE", "F1", "k=4", "entropy", "question ECE"):
            ours, theirs = study.values(ANCHOR, figure), study.values(arm, figure)
            if arm == ANCHOR or len(ours.keys() & theirs.keys()) < 2:
                continue
            test = paired(ours, theirs)
            yield f"{figure}: anchors less {arm} {test.difference:+.4f} (p = {test.p_value:.3f}, two-sided)"


COMMANDS = Commands(str(__doc__), rows, Study, forecast, table, bars)


if __name__ == "__main__":
    sys.exit(COMMANDS.main(sys.argv[1:]))
