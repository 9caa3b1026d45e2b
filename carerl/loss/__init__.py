"""The learner's loss: from graded groups to one number to minimise, and what is measured on the way."""

from __future__ import annotations

from . import metrics

__all__ = ["metrics"]
