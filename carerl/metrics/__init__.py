"""The one table of metrics: every name that a run logs, with its unit, its words and where it is shown.

:mod:`.table` has :class:`Metric`, the table ``METRICS`` and what reads it; :mod:`.lines`, :mod:`.anchors`,
:mod:`.decisions`, :mod:`.decoding`, :mod:`.distillation`, :mod:`.preferences` and :mod:`.rounds` have the lines that
belong to no task. Rooms above add theirs: a task through its line in ``carerl.tasks.TASKS``, the loss in
:mod:`carerl.loss.metrics`, a plugin with :func:`declare`. ``import carerl.config`` brings all of the package's own.

    from carerl.metrics import At, Metric, declare

    declare(Metric("train/novelty", "1", "how new the responses are", label="novelty", better=+1,
                   shown={"step": At(100), "curves/novelty": At(), "workspace/training": At(100)}))

:data:`carerl.metrics.table.VIEWS` lists the places that ``shown`` can name.
"""

from __future__ import annotations

from .table import METRICS, At, Metric, declare

from . import anchors, decisions, decoding, distillation, lines, preferences, rounds  # isort: skip (they fill the table)

__all__ = [
    "METRICS",
    "At",
    "Metric",
    "anchors",
    "decisions",
    "declare",
    "decoding",
    "distillation",
    "lines",
    "preferences",
    "rounds",
]
