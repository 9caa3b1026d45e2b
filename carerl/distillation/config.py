"""The settings of distillation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from carerl.errors import ConfigError
from carerl.settings import Errors, Run, Settings, above, at_least, at_most, changed, one_of, share

NAMES = ("none", "mixture", "prg")
OF_TRACES = ("labelled", "traces", "per_step", "floor")  # settings that only a run with traces reads
OF_GAINS = ("floor", "last_step", "supports", "least", "shuffle", "delimiter")  # settings that only gains read


@dataclass
class DistillationConfig(Settings):
    """Settings of an update that learns traces beside what is rewarded, see :mod:`carerl.distillation`."""

    # none | mixture | prg: every response weighs 1, or as much as its steps strengthen its answer
    name: Annotated[str, one_of(NAMES)] = "none"
    # share of the training questions whose traces are learned, of endless ones of those that the run asks; one at least
    labelled: Annotated[float, above(0), at_most(1, "it is a share")] = 0.01
    traces: str = ""  # a .jsonl file with question and solution in each row; empty: the task's own solutions
    # traces of a step, dealt evenly to its optimizer steps; they come again and again
    per_step: Annotated[int, at_least(1)] = 32
    weight: Annotated[float, at_least(0)] = 0.1  # of the mean cross-entropy of the traces' tokens
    floor: Annotated[float, share(0.1)] = 0.1  # prg: the least weight of a trace, times distillation.weight
    last_step: bool = True  # prg: false computes gains without the last step, which may state the answer
    # prg: how often at most a response's answer is scored; more steps are taken together
    supports: Annotated[int, at_least(3)] = 8
    # prg: nats, a response whose steps change its answer's mean log-prob by less in total gains 0; the rounding of
    # float32 is below it, that of bfloat16 is not: write 0.1
    least: Annotated[float, at_least(0)] = 0.01
    delimiter: str = "\n\n"  # prg: ends a step of a text; a task may have steps of its own
    shuffle: bool = False  # prg: the known gains are dealt to the step's responses at random, as a control

    @property
    def learns(self) -> bool:
        """True if the loss has a term on traces."""
        return self.name != "none" and self.weight > 0

    @property
    def gains(self) -> bool:
        """True if the progressive gain of every response is computed, and weighs it."""
        return self.name == "prg"

    @property
    def on(self) -> bool:
        """True if the update is another one than without distillation."""
        return self.learns or self.gains

    def questions(self, whole: int) -> int:
        """Returns how many questions have traces that are learned, of the ``whole`` that the run trains on.

        >>> [DistillationConfig(labelled=share).questions(400) for share in (0.001, 0.01, 1.0)]
        [1, 4, 400]
        """
        return min(whole, max(1, round(self.labelled * whole)))

    def lines(self, run: Run) -> list[str]:
        """Returns the line that says before a run begins which traces it learns and how responses are weighed; none
        without distillation."""
        if not self.on:
            return []
        few = f"solutions of {100 * self.labelled:g}% of the questions"
        origin = f"the rows of {self.traces}" if self.traces else few
        if run.taught:
            return [f"distillation: what is learned are {origin}, again and again"]
        learned = f"{self.per_step} traces a step, {origin}, "
        parts = [f"{learned}weight {self.weight:g}" if self.learns else "no traces (distillation.weight=0)"]
        if self.gains:
            steps = "" if self.last_step else ", without their last step"
            dealt = ", shuffled among the step's responses" if self.shuffle else ""
            traces = f", traces by {self.floor:g} or more" if self.learns else ""
            parts.append(f"responses weighed by their progressive gain{steps}{dealt}{traces}")
        return [f"distillation ({self.name}): {'; '.join(parts)}"]

    def check(self, run: Run) -> Errors:
        rl = run.trains_on_questions and not (run.taught or run.prefers)
        if run.taught and self.name != "none":
            yield from self._alone()
            return
        if not rl or self.name == "none":
            reason = "nothing would read it: the run has no distillation"
            if not rl and not run.taught:
                reason = "only a run of RL has distillation: its traces are learned beside what a reward changes"
            names = "mixture or prg" if rl else "mixture" if run.taught else ""
            for name, value in changed(self):
                remedy = f"write distillation.name={names} too" if names else f"leave distillation.{name} out"
                yield ConfigError(f"distillation.{name}", value, reason, remedy)
            return
        yield from self._all_rows()
        yield from self._steps()
        for name, value in () if self.learns else changed(self):
            if name in OF_TRACES:
                reason = "nothing would read it: distillation.weight=0 learns no traces"
                yield ConfigError(f"distillation.{name}", value, reason, "write a weight above 0, or leave it out")
        for name, value in () if self.gains else changed(self):
            if name in OF_GAINS:
                reason = f"nothing would read it: distillation.name={self.name} computes no gains"
                yield ConfigError(f"distillation.{name}", value, reason, "write distillation.name=prg, or leave it out")

    def _steps(self) -> Errors:
        """Yields an error for gains without steps, or with fewer supports than tell more than a direction."""
        if not self.delimiter and self.gains:
            remedy = r'write distillation.delimiter="\n\n"'
            yield ConfigError("distillation.delimiter", "", "no step would ever end", remedy)
        if self.supports < 4 and self.gains and not self.last_step:
            reason = "without the last step two supports are left, and a gain is only 1, -1 or 0"
            yield ConfigError("distillation.supports", self.supports, reason, "write distillation.supports=4 or more")

    def _all_rows(self) -> Errors:
        """Yields an error for a share beside a file of traces."""
        if self.traces and self.labelled != DistillationConfig.labelled:
            reason = "nothing would read it: every row of distillation.traces is learned"
            yield ConfigError("distillation.labelled", self.labelled, reason, "leave one of the two out")

    def _alone(self) -> Errors:
        """Yields an error for what a run of supervised finetuning does not read: it learns labelled traces alone."""
        if self.gains:
            reason = "supervised finetuning samples no responses whose gains could weigh anything"
            yield ConfigError("distillation.name", self.name, reason, "write distillation.name=mixture, or kind=rl")
        yield from self._all_rows()
        for name, value in changed(self):
            if name not in ("name", "labelled", "traces"):
                reason = "nothing would read it: the traces are all that is learned, prompts_per_step in each step"
                yield ConfigError(f"distillation.{name}", value, reason, f"leave distillation.{name} out")
