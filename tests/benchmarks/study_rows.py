"""What studies over seeds share: rows by arm and seed, refused where they are not of one study, and paired tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from scipy.special import stdtrit

from carerl.calibration import PairedTest, paired_t, t_half_width
from carerl.runs.directory import RunDirectory
from carerl.runs.find import find_runs

Row = Mapping[str, Any]


class Rows:
    """Holds the rows of some seeds by arm and seed. Raises ValueError where two rows are of one arm and seed, where
    runs of one arm differ in more than the seed, where arms differ in what all share, and for several commits.

    A row has ``arm``, ``seed``, ``commit``, ``shared`` (settings that all arms share) and ``own`` (the arm's)."""

    def __init__(self, found: Sequence[Row], seeds: Sequence[int]) -> None:
        self.by_arm: dict[str, dict[int, Row]] = {}
        self.seeds = seeds
        for row in found:
            if row["seed"] not in seeds:
                continue
            of_arm = self.by_arm.setdefault(str(row["arm"]), {})
            if row["seed"] in of_arm:
                raise ValueError(f"{row['arm']}, seed {row['seed']}: two rows")
            of_arm[int(row["seed"])] = row
        every = [row for of_arm in self.by_arm.values() for row in of_arm.values()]
        for what, groups in (
            ("commit", [every]),
            ("shared", [every]),
            ("own", [list(of_arm.values()) for of_arm in self.by_arm.values()]),
        ):
            for rows_of_group in groups:
                if len({json.dumps(row[what], sort_keys=True) for row in rows_of_group}) > 1:
                    raise ValueError(f"runs differ in {what}, and are not one study")

    def figure(self, arm: str, name: str, part: str = "final") -> dict[int, float]:
        """Returns a figure of an arm by seed, of a part of its rows; NaN where a row has none."""
        return {seed: row[part].get(name, float("nan")) for seed, row in sorted(self.by_arm.get(arm, {}).items())}

    def lacks(self, arm: str) -> list[int]:
        """Returns the seeds of which an arm has no row."""
        return [seed for seed in self.seeds if seed not in self.by_arm.get(arm, {})]


def unfinished(study: Rows, arms: Sequence[str]) -> Iterator[tuple[str, str, bool]]:
    """Yields a missed bar for each arm that has no row of some seed."""
    for arm in arms:
        if missing := study.lacks(arm):
            yield f"{arm}: a finished run of every seed", f"none of {missing}", False


def read_rows(path: str | Path, commit: str = "") -> list[dict[str, Any]]:
    """Returns the rows of a file, one JSON object a line; only those of a commit, if the beginning of one is given."""
    found = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return [row for row in found if str(row["commit"]).startswith(commit)] if commit else found


def seeds_of(word: str) -> range:
    """Reads ``100-103``, or one seed."""
    first, _, last = word.partition("-")
    return range(int(first), int(last or first) + 1)


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> PairedTest:
    """Tests the mean of a - b over the seeds that both have. Raises ValueError where they share fewer than two."""
    seeds = sorted(a.keys() & b.keys())
    return paired_t([a[seed] for seed in seeds], [b[seed] for seed in seeds])


def expected_width(test: PairedTest, seeds: int, wanted: int) -> float:
    """Returns how far the bound will lie from the difference on ``wanted`` seeds, if they spread as these do."""
    spread = (test.difference - test.lower_bound) * np.sqrt(seeds) / stdtrit(seeds - 1, 0.95)
    return float(stdtrit(wanted - 1, 0.95) * spread / np.sqrt(wanted))


def average(by_seed: Mapping[int, float]) -> float:
    """Returns the mean over seeds; NaN without one."""
    return float(np.mean(list(by_seed.values()))) if by_seed else float("nan")


def mean_text(values: Sequence[float]) -> str:
    """Writes a mean over seeds with the half-width of its 95 % interval."""
    if len(values) < 2:
        return " ".join(f"{value:.3f}" for value in values)
    return f"{np.mean(values):.3f} ± {t_half_width(values):.3f}"


def arm_table(study: Rows, shown: Mapping[str, str]) -> Iterator[str]:
    """Yields the lines of the table of arms: what the base model had, then what each arm has in the end; means over
    seeds with the half-width of their 95 % interval. ``shown``: a figure's head and its metric."""
    yield "| arm | seeds | " + " | ".join(shown) + " |"
    yield "|---|--:|" + "--:|" * len(shown)
    first = next(iter(study.by_arm), "")
    for label, arm, part in [("base", first, "base"), *((arm, arm, "final") for arm in study.by_arm)]:
        values = [list(study.figure(arm, name, part).values()) for name in shown.values()]
        yield f"| {label} | {len(values[0])} | " + " | ".join(mean_text(found) for found in values) + " |"


def say_bars(bars: Sequence[tuple[str, str, bool]]) -> int:
    """Prints each bar with its figure; returns 1 if one was missed."""
    for asked, said, met in bars:
        print(f"{'met   ' if met else 'MISSED'} {asked}: {said}")
    return 0 if all(met for _, _, met in bars) else 1


def finished(paths: Sequence[str]) -> Iterator[tuple[RunDirectory, dict[str, Any], dict[str, Any]]]:
    """Yields each finished run below the paths, with its summary and its settings."""
    for path in find_runs(paths):
        run = RunDirectory(path)
        summary = run.read_summary() or {}
        if summary.get("status") == "completed":
            yield run, summary, run.read_config()


def row_of(arm: str, run: RunDirectory, summary: Row, config: Row) -> dict[str, Any]:
    """Returns what the row of every run has: which one it is, and what all arms of a study share."""
    return {
        "arm": arm,
        "seed": config["seed"],
        "seconds": round(summary["seconds"]),
        "commit": (run.read_versions() or {}).get("commit"),
        "shared": {
            "prompts_per_step": config["prompts_per_step"],
            "task": config["task"],
            "optimizer": config["learner"]["optimizer"],
            "schedule": config["learner"]["schedule"],
            "samples": config["evaluation"]["samples"],
        },
    }


S = TypeVar("S", bound=Rows)


@dataclass(frozen=True)
class Commands(Generic[S]):
    """Holds what a study's command line does; ``help`` is what it prints for other words."""

    help: str
    rows: Callable[[Sequence[str]], Iterator[Row]]
    study: Callable[[Sequence[Row], Sequence[int]], S]
    forecast: Callable[[S], Iterator[str]]
    table: Callable[[S], Iterator[str]]
    bars: Callable[[S], Iterator[tuple[str, str, bool]]]

    def main(self, words: Sequence[str]) -> int:
        """Runs ``rows PATH …``, or ``forecast``, ``table`` or ``bars`` with a file, seeds, and a commit where the file
        has rows of several. Returns 1 if a bar was missed, 2 for other words."""
        least = 2 if words[:1] == ["rows"] else 3
        if len(words) < least or words[0] not in ("rows", "forecast", "table", "bars"):
            print(self.help)
            return 2
        if words[0] == "rows":
            for row in self.rows(words[1:]):
                print(json.dumps(row))
            return 0
        study = self.study(read_rows(words[1], *words[3:4]), seeds_of(words[2]))
        print("\n".join(self.forecast(study) if words[0] == "forecast" else self.table(study)))
        return say_bars(list(self.bars(study))) if words[0] == "bars" else 0
