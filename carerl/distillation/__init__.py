"""Learns a few traces beside rewards: hybrid tuning, after HyTuning (arXiv 2604.08454).

An update has two parts, in one batch: the policy term of sampled responses, usually with an internal reward
(:mod:`carerl.rewards.internal`), and the cross-entropy of traces, solutions of few questions, which hold the policy
while an internal reward drives it. [ours: only the paper's abstract and introduction could be read. Every formula here
is our own, and none of the paper's numbers is quoted.]

    loss = policy term, response i times w_i + penalty … + weight · v · (1/N) Σ_traces Σ_t −log π(token)

N: the traces' tokens of an optimizer minibatch over all ranks. ``mixture``: w = v = 1. ``prg``: w and v follow from
the progressive gain of the step's responses.

============ ==========================================================================================
file         what it has
============ ==========================================================================================
``config``   the settings, section ``distillation`` of a recipe
``gain``     the progressive gain of a response, from the supports of its answer
``weights``  from the gains of a step to the weights of its responses and traces
============ ==========================================================================================
"""

from .config import NAMES, DistillationConfig
from .gain import negligible, progressive_gain, support_places, total_gain, without_last
from .weights import Gain, response_weights, shuffled, trace_weight

__all__ = [
    "NAMES",
    "DistillationConfig",
    "Gain",
    "negligible",
    "progressive_gain",
    "response_weights",
    "shuffled",
    "support_places",
    "total_gain",
    "trace_weight",
    "without_last",
]
