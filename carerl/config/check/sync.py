"""Limits of the parity probe and of the rollouts that the dtypes do not allow."""

from __future__ import annotations

from collections.abc import Iterator

from carerl.config.schema import RunConfig
from carerl.errors import ConfigError
from carerl.loss.parity import LEAST_OF_BFLOAT16, LIMITS, limits_for


def sync_pairings(c: RunConfig) -> Iterator[ConfigError]:
    """Yields an error for every limit below what bfloat16 rounds by, where engine or learner compute in it."""
    dtype = limits_for((c.model.dtype, c.learner.compute_dtype)).dtype
    if not c.trains_on_questions or dtype != "bfloat16":
        return
    least, default = LEAST_OF_BFLOAT16, LIMITS[dtype]
    for key, value, lowest, usual in (
        ("sync.probe_mean_abort", c.sync.probe_mean_abort, least.mean, default.mean),
        ("sync.probe_q999_abort", c.sync.probe_q999_abort, least.q999, default.q999),
        ("sync.mismatch_mean_abort", c.sync.mismatch_mean_abort, least.mean, default.mean),
        ("sync.mismatch_q999_abort", c.sync.mismatch_q999_abort, least.q999, default.q999),
    ):
        if 0 < value < lowest:
            yield ConfigError(
                key,
                value,
                "bfloat16 keeps 8 bits, so that engine and learner differ by more than this without any fault",
                f"write {key}={usual:g} or leave it out, or float32 for model.dtype and learner.compute_dtype",
            )
