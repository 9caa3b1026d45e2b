"""The metrics that the loss adds to the table: those split by stratum, and the histogram of the coefficient."""

from __future__ import annotations

from carerl.loss.strata import BINS, COEFFICIENT_BINS, OUTCOMES
from carerl.metrics import At, Metric, declare
from carerl.metrics.table import shown_in

# what is split, and how -> the picture of the run's report that shows it so
_PICTURES = {
    ("entropy", "outcome"): "entropy_split",
    ("reverse_kl", "outcome"): "divergence_split",
    ("coefficient", "confidence"): "coefficient_split",
}


def _split(metric: Metric) -> list[Metric]:
    """Returns a metric's lines for each stratum, named as :meth:`carerl.loss.tally.Tally.mean_and_split` does."""
    ways = {
        "outcome": {outcome: outcome for outcome in OUTCOMES},
        "confidence": {f"confidence_{low}": f"from {low} %" for low in BINS},
    }
    made = []
    for way, strata in ways.items():
        picture = _PICTURES.get((metric.kind, way))
        for stratum, label in strata.items():
            shown = {f"curves/{picture}": At(0, label)} if picture else {}
            shown |= {f"parts/{metric.kind}_{way}": At()}
            words = f"{metric.meaning}, of a stratum"
            made.append(Metric(f"{metric.name}_{stratum}", metric.unit, words, shown=shown))
    return made


declare(
    *(line for metric in shown_in("strata") for line in _split(metric)),
    *(
        Metric(
            f"regularizer/coefficient_bin_{name}",
            "share",
            "sampled tokens whose coefficient lies in the bin (m: minus; _ between digits: a point)",
            shown={"parts/coefficient_bins": At()},
        )
        for name in COEFFICIENT_BINS
    ),
)
