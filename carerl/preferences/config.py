"""The settings of preferences: how steps are judged, paired and learned from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from carerl.errors import ConfigError
from carerl.settings import Errors, Run, Settings, above, at_least, one_of, share

LABELS = ("exact", "monte_carlo", "judge")
UNITS = ("step", "response")
CONFIDENCES = ("prefer", "only", "off")
SECONDS = ("judged", "always", "off")


@dataclass
class PreferenceConfig(Settings):
    """Settings of a round of preferences, see :mod:`carerl.preferences`. A round is a step of the run: ``steps`` counts
    rounds, two or three in the paper.

    As they are they make CASPO. ``confidence=off`` makes step-DPO, and ``unit=response`` with ``confidence=off``
    outcome-DPO, whose labels are the grader's.

    1. [ours] The paper's pairs are confident or unsure "in preference". ``prefer`` takes pairs in that order, as many
       as ``pairs_per_question``; ``only`` leaves out the others.
    2. [ours] ``second=judged``: the continuation that begins with the second most probable token is rejected if it is
       judged wrong. In the paper (``always``) it is rejected unseen. But the second most probable step is often right
       as well: in the tiny world it is the careful method, which ``always`` would unlearn.
    3. [ours] ``right_from`` and ``wrong_to`` leave out steps that the judge is in doubt about.
    """

    samples: Annotated[int, at_least(1)] = 8  # responses to each question of a round
    delimiter: str = "\n\n"  # ends a step of a text; a task may have steps of its own
    unit: Annotated[str, one_of(UNITS)] = "step"  # step | response: what is chosen and rejected
    # exact | monte_carlo | judge: who says whether a step is right: the task, completions of it, or a second model
    label: Annotated[str, one_of(LABELS)] = "exact"
    completions: Annotated[int, at_least(1)] = 8  # monte_carlo: drawn after each step
    right_from: Annotated[float, share(0.5)] = 0.5  # a step is right from this share of right completions on
    wrong_to: Annotated[float, share(0.0)] = 0.0  # and wrong up to this one; between them it is in no pair
    # prefer | only | off: pairs whose right step is unsure and whose wrong step is sure
    confidence: Annotated[str, one_of(CONFIDENCES)] = "prefer"
    unsure: Annotated[float, share(0.5)] = 0.5  # the least confident share of a round's right steps is unsure
    sure: Annotated[float, share(0.5)] = 0.5  # the most confident share of a round's wrong steps is sure
    # judged | always | off: for a right and unsure step, the step that begins with the second most probable token is
    # rejected if it is judged wrong, in any case, or never asked for
    second: Annotated[str, one_of(SECONDS)] = "judged"
    pairs_per_question: Annotated[int, at_least(1)] = 8
    pairs_per_update: Annotated[int, at_least(1)] = 64  # of one optimizer step
    epochs: Annotated[int, at_least(1)] = 1  # passes over the pairs of a round
    beta: Annotated[float, above(0)] = 0.1  # DPO's
    nll_weight: Annotated[float, at_least(0)] = 0.2  # of the mean NLL of the chosen steps' tokens

    @property
    def judged(self) -> bool:
        """True if steps need labels; responses have their grader's."""
        return self.unit == "step"

    @property
    def asks_second(self) -> bool:
        """True if continuations from the second most probable token are asked for."""
        return self.unit == "step" and self.confidence != "off" and self.second != "off"

    @property
    def method(self) -> str:
        """The method's name: ``caspo``, ``step_dpo`` or ``outcome_dpo``."""
        if self.unit == "response":
            return "outcome_dpo"
        return "step_dpo" if self.confidence == "off" else "caspo"

    def check(self, run: Run) -> Errors:
        if self.wrong_to >= self.right_from:
            yield ConfigError(
                "preference.wrong_to",
                self.wrong_to,
                f"a step would be right (from {self.right_from:g} on) and wrong at once",
                "write a share below preference.right_from",
            )
        if not self.delimiter:
            reason, remedy = "no step would ever end", r'write preference.delimiter="\n\n", or preference.unit=response'
            yield ConfigError("preference.delimiter", "", reason, remedy)
