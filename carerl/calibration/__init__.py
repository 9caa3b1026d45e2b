"""Calibration metrics and the statistics of comparisons, on NumPy arrays.

``confidence`` says how sure a model is of its responses, :func:`measure` what that is worth. Metrics: ``bins`` (ECE and
its kin, reliability diagrams), ``proper_scores`` (Brier, NLL), ``ranking`` (AUROC, AURC, accuracy at coverage),
``attempts`` (pass@k, maj@N). Beside them: ``floors`` (ECE of a perfect model), ``debiased`` (ECE without its bias, with
an interval), ``intervals`` (over questions), ``paired`` (two runs on the same questions), ``temperature`` (scaling),
``votes`` (the majority), ``seeds`` (intervals and tests over seeds).
"""

from __future__ import annotations

from .attempts import majority_correct, pass_at_k
from .bins import ReliabilityBin, ace, ece, mce, reliability_bins
from .confidence import (
    ESTIMATORS,
    Judged,
    answer_probability,
    answer_shares,
    answered_share,
    judge_majority,
    judge_mean,
    judge_samples,
    option_probability,
    sequence_confidence,
    verbalized_confidence,
)
from .floors import Floor, labels_floor, observed_answers, votes_floor
from .intervals import Estimate, auroc_interval, bootstrap_interval, mean_interval, share_interval, wilson
from .proper_scores import BrierDecomposition, brier, brier_decomposition, brier_scores, nll, nll_scores
from .ranking import accuracy_at_coverage, auroc, aurc, risk_coverage
from .seeds import Interval, PairedTest, holm, paired_t, t_interval
from .votes import majority
