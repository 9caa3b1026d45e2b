"""Calibration metrics and the statistics of comparisons, on NumPy arrays.

``confidence`` says how sure a model is of its responses; :func:`measure` says how well that confidence is calibrated.
Metrics: ``bins`` (ECE and its kin, reliability diagrams), ``proper_scores`` (Brier, NLL), ``ranking`` (AUROC, AURC,
accuracy at coverage), ``attempts`` (pass@k), ``steps`` (of the confidence of a response's steps). Beside them:
``floors`` (ECE of a perfect model), ``debiased`` (ECE without its bias, with an interval), ``intervals`` (over
questions), ``paired`` (two runs on the same questions), ``temperature`` and ``isotonic`` (post-hoc calibration, as
``calibrator`` says), ``votes`` (the majority), ``over_seeds`` (intervals and tests over seeds).
"""

from __future__ import annotations

from .attempts import pass_at_k
from .bins import ReliabilityBin, ece, mce, reliability_bins
from .calibrator import Calibrator
from .confidence import (
    ESTIMATORS,
    Judged,
    answer_probability,
    answer_shares,
    blanked_statement,
    judge_mean,
    judge_samples,
    option_probability,
    sequence_confidence,
    verbalized_confidence,
    without_statement,
)
from .debiased import debiased_ece
from .floors import AnswerTable, Floor, labels_floor, observed_answers, votes_floor
from .intervals import REPEATS, Estimate, auroc_interval, bootstrap_interval, mean_interval, share_interval, wilson
from .isotonic import Isotonic, fit_isotonic
from .measure import measure, vote_clip
from .over_seeds import PairedTest, holm, paired_t, t_half_width
from .paired import paired_differences
from .proper_scores import BrierDecomposition, brier, brier_decomposition, brier_scores, nll, nll_scores
from .ranking import accuracy_at_coverage, aurc, auroc, risk_coverage
from .steps import step_measures
from .temperature import Temperature, fit_temperature, scale_confidence
from .votes import majority

__all__ = [
    "ESTIMATORS",
    "REPEATS",
    "AnswerTable",
    "BrierDecomposition",
    "Calibrator",
    "Estimate",
    "Floor",
    "Isotonic",
    "Judged",
    "PairedTest",
    "ReliabilityBin",
    "Temperature",
    "accuracy_at_coverage",
    "answer_probability",
    "answer_shares",
    "aurc",
    "auroc",
    "auroc_interval",
    "blanked_statement",
    "bootstrap_interval",
    "brier",
    "brier_decomposition",
    "brier_scores",
    "debiased_ece",
    "ece",
    "fit_isotonic",
    "fit_temperature",
    "holm",
    "judge_mean",
    "judge_samples",
    "labels_floor",
    "majority",
    "mce",
    "mean_interval",
    "measure",
    "nll",
    "nll_scores",
    "observed_answers",
    "option_probability",
    "paired_differences",
    "paired_t",
    "pass_at_k",
    "reliability_bins",
    "risk_coverage",
    "scale_confidence",
    "sequence_confidence",
    "share_interval",
    "step_measures",
    "t_half_width",
    "verbalized_confidence",
    "vote_clip",
    "votes_floor",
    "wilson",
    "without_statement",
]
