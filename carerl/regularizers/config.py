"""The settings that regularizers share, and which of them do not go together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from carerl.errors import ConfigError, suggestion
from carerl.regularizers.estimators import ESTIMATORS, refusal
from carerl.settings import Errors, Run, Settings, at_least, one_of, share

PLACES = ("loss", "reward")
CLIP = 0.2  # of the relative error by which beta is adapted: one step's noise moves it by beta_gain / 5 at most


@dataclass
class RegularizerConfig(Settings):
    """The settings of every regularizer. What a run reads of a penalty is here a property with the value that means no
    penalty; :class:`PenaltyConfig` makes fields of them.

    ``no_log_ratio``: for a divergence that is not the mean of a log-ratio under the policy, what to know about it. Such
    a regularizer does not take the estimators k2 and k3.
    """

    no_log_ratio: ClassVar[str] = ""
    name: str

    @property
    def beta(self) -> float:
        """Strength of the penalty."""
        return 0.0

    @property
    def target_kl(self) -> float:
        """The reverse KL to the reference that beta is adapted to, nats a token; 0: beta stays as it is."""
        return 0.0

    @property
    def beta_gain(self) -> float:
        """How fast beta is adapted."""
        return 0.0

    @property
    def estimator(self) -> str:
        """How a loss is made of the divergence, see :mod:`carerl.regularizers.estimators`."""
        return "score"

    @property
    def place(self) -> str:
        """Where the penalty acts, one of :data:`PLACES`."""
        return "loss"


@dataclass
class PenaltyConfig(RegularizerConfig):
    """The settings of every penalty. ``beta``: strength, or the first value of one that is adapted until the reverse
    KL to the reference is ``target_kl``, see :mod:`carerl.loss.adaptive`. ``estimator``: see
    :mod:`carerl.regularizers.estimators`. ``place``: loss, a component of its own; reward, −beta · coefficient added to
    each token's advantage."""

    beta: Annotated[float, at_least(0)] = 0.04
    target_kl: Annotated[float, at_least(0)] = 0.0  # nats a token; 0: beta stays as it is
    beta_gain: float = 0.1
    estimator: str = "score"
    place: Annotated[str, one_of(PLACES)] = "loss"

    def check(self, run: Run) -> Errors:
        yield from super().check(run)
        if (reason := refusal(self.estimator, self.no_log_ratio)) is not None:
            allowed = [name for name in ESTIMATORS if refusal(name, self.no_log_ratio) is None]
            if self.estimator in (*ESTIMATORS, "k1"):
                remedy = "write regularizer.estimator=" + " or ".join(allowed)
            else:
                remedy = suggestion(self.estimator, allowed, "regularizer.estimator=")
            yield ConfigError("regularizer.estimator", self.estimator, reason, remedy)
        if not 0 < self.beta_gain < 1 / CLIP:
            yield ConfigError(
                "regularizer.beta_gain",
                self.beta_gain,
                f"one step multiplies beta by 1 ± {CLIP:g} times it, which must stay above 0",
                "write regularizer.beta_gain=0.1",
            )
        if self.target_kl > 0 and self.beta == 0:
            yield ConfigError(
                "regularizer.target_kl",
                self.target_kl,
                "beta is adapted by factors, and one of 0 stays 0",
                "write regularizer.beta=1 for a start, or regularizer.target_kl=0",
            )


@dataclass
class SkewConfig(PenaltyConfig):
    """The settings of a penalty on the way to a mixture of policy and reference. At ``alpha`` = 1 the mixture is the
    policy or the reference itself, and there is no penalty."""

    alpha: Annotated[float, share(0.8)] = 0.8

    def check(self, run: Run) -> Errors:
        yield from super().check(run)
        if self.target_kl > 0 and self.alpha == 1.0:
            yield ConfigError(
                "regularizer.target_kl",
                self.target_kl,
                "at regularizer.alpha=1 the penalty is no penalty: no beta could hold a target",
                "write regularizer.alpha=0.8, or regularizer.target_kl=0",
            )
