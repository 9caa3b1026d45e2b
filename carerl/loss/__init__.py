"""The learner's loss: from graded groups to one number to minimise, and the metrics measured on the way.

============== ==============================================================================================
file           what it does
============== ==============================================================================================
``batching``   plans an update: fills a batch's streams from graded groups and deals rows to optimizer steps
``head``       turns hidden states into log-probs, entropy and divergences, a chunk of tokens at a time
``streams``    lays a batch's streams out flat, a number for each response token
``objective``  adds up the loss: policy term, regularizer, entropy bonus, cross-entropy
``decided``    fills in what is done at decision tokens (:mod:`carerl.decisions`)
``anchored``   adds rows that are held to the reference; ``distilled`` traces that are learned; both by ``added``
``mismatch``   weights tokens on which engine and learner disagree
``adaptive``   adapts the strengths of regularizer and entropy bonus from step to step
``tally``      sums up metrics over tokens; ``strata`` splits them; ``metrics`` declares them
``parity``     judges how far the engine's log-probs are from the learner's
============== ==============================================================================================
"""

from __future__ import annotations

from . import metrics

__all__ = ["metrics"]
