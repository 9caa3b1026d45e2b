"""The settings of anchors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from carerl.errors import ConfigError
from carerl.settings import Errors, Run, Settings, at_least, changed, one_of, share

NAMES = ("none", "prompts")
DIVERGENCES = ("fkl", "rkl", "srkl", "js", "ce")
SAMPLERS = ("reference", "policy")
RANDOM = "random"


@dataclass
class AnchorConfig(Settings):
    """Settings of a term on prompts that the reward never sees, see :mod:`carerl.anchors`."""

    name: Annotated[str, one_of(NAMES)] = "none"  # none | prompts
    # a source of the task's own, a file or data set of questions, or random: tokens of the vocabulary without specials,
    # as many as training prompts have
    source: str = ""
    per_step: Annotated[int, at_least(1)] = 64  # anchors of a step, dealt evenly to its optimizer steps
    pool: Annotated[int, at_least(0)] = 0  # prompts that are used again and again; 0: all that the source has
    max_new_tokens: Annotated[int, at_least(1)] = 64  # of an anchor's response; longer ones are cut
    weight: Annotated[float, at_least(0)] = 1.0  # of the mean over the anchors' tokens
    # fkl | rkl | srkl | js: the exact divergence from the reference; ce: the cross-entropy of the response
    divergence: Annotated[str, one_of(DIVERGENCES)] = "fkl"
    alpha: Annotated[float, share(0.8)] = 0.8  # of srkl
    sampler: Annotated[str, one_of(SAMPLERS)] = "reference"  # reference | policy: who answers the prompts

    @property
    def on(self) -> bool:
        """True if the loss has a term on anchors."""
        return self.name != "none" and self.weight > 0

    @property
    def exact(self) -> bool:
        """True if the term needs the reference's whole distribution."""
        return self.on and self.divergence != "ce"

    @property
    def drawn_first(self) -> bool:
        """True if the anchors' responses are drawn before the first update."""
        return self.on and self.sampler == "reference"

    def lines(self, run: Run) -> list[str]:
        """Returns the line that says before a run begins what its anchors are; none where there are none."""
        if not self.on:
            return []
        some = f"{self.pool} prompts" if self.pool else "prompts"
        skew = f" (alpha {self.alpha:g})" if self.divergence == "srkl" else ""
        return [
            f"anchors: {self.per_step} a step of {some} from {self.source}, answered by the {self.sampler}; "
            f"{self.divergence}{skew}, weight {self.weight:g}"
        ]

    def check(self, run: Run) -> Errors:
        rl = run.trains_on_questions and not (run.taught or run.prefers)
        if not rl or self.name == "none":
            reason = "nothing would read it: there are no anchors"
            if not rl:
                reason = "only a run of RL has anchors: they stand beside what a reward changes"
            for name, value in changed(self):
                remedy = "write anchor.name=prompts too" if rl else f"leave anchor.{name} out"
                yield ConfigError(f"anchor.{name}", value, reason, remedy)
            return
        if not self.source:
            yield ConfigError(
                "anchor.source",
                "",
                "anchors need prompts",
                "write anchor.source=, a source of the task, a file or random",
            )
        if self.divergence == "ce" and self.sampler == "policy":
            reason = "the cross-entropy of the policy's own responses holds it to nothing: it would only sharpen it"
            yield ConfigError(
                "anchor.divergence", "ce", reason, "write anchor.divergence=fkl, or anchor.sampler=reference"
            )
        if self.divergence != "srkl" and self.alpha != AnchorConfig.alpha:
            reason = f"nothing would read it: anchor.divergence={self.divergence} has no alpha"
            yield ConfigError("anchor.alpha", self.alpha, reason, "write anchor.divergence=srkl, or leave it out")
        if self.divergence == "srkl" and self.alpha == 1.0:
            reason = "at alpha 1 the mixture is the policy itself, and the divergence is 0"
            yield ConfigError("anchor.alpha", 1.0, reason, "write anchor.alpha=0.8")
