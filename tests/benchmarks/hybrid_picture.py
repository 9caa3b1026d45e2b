"""The picture of HyTuning's study: how right rollouts are over the steps, a line for each arm.

python -m tests.benchmarks.hybrid_picture recipes/results/hytuning_tiny.jsonl 5000-5007 > recipes/hytuning.svg
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from carerl.report.pictures.svg import Picture, colour, style
from tests.benchmarks.hybrid_study import HYTUNING, MIXTURE, ORACLE, RD, SHOWN, SHUFFLED, SIGNAL
from tests.benchmarks.study_rows import Rows, average, read_rows, seeds_of

DRAWN = {
    ORACLE: "GRPO with gold answers",
    HYTUNING: "HyTuning",
    SHUFFLED: "HyTuning, gains shuffled",
    MIXTURE: "fixed mixture",
    f"rlif {SIGNAL}": "internal feedback alone",
}
METRIC = "rollout/accuracy"


def picture(study: Rows) -> Picture:
    """Draws the mean over seeds of each arm's rollout accuracy, with all seeds between the fainter edges. Solutions
    alone have no rollouts: a dashed line shows where they end. Raises KeyError for an arm that is missing."""
    with style():
        figure = Figure(figsize=(8.2, 4.2))
        axes = figure.subplots()
        figure.subplots_adjust(left=0.08, right=0.985, top=0.83, bottom=0.12)
        for index, (arm, label) in enumerate(DRAWN.items()):
            rows = list(study.by_arm[arm].values())
            courses = np.asarray([row["courses"][METRIC] for row in rows], dtype=np.float64)
            steps = (np.arange(courses.shape[1]) + 1) * rows[0]["shared"]["part"]
            axes.plot(steps, courses.mean(0), color=colour(index), label=label)
            axes.fill_between(steps, courses.min(0), courses.max(0), color=colour(index), alpha=0.12, linewidth=0)
        ends = average(study.figure(RD, SHOWN["accuracy"]))
        axes.axhline(ends, color=colour(len(DRAWN)), linestyle="dashed", label="solutions alone, in the end")
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlim(0, None)
        axes.set_xlabel("step")
        axes.set_ylabel("accuracy of rollouts")
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3)
    return Picture("hytuning", "Accuracy of rollouts over the steps, by arm: means over seeds, and all of them", figure)


def main(words: Sequence[str]) -> int:
    """Prints the SVG of a file's rows of some seeds; returns 2 for other words."""
    if len(words) != 2:
        print(__doc__)
        return 2
    sys.stdout.write(picture(Rows(read_rows(words[0]), seeds_of(words[1]))).svg())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
