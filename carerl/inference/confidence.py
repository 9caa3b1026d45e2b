r"""Computes how sure a model was of what it wrote: of a token, of a step, and of a response so far.

A step's confidence is 1 − (mean entropy of its tokens) / log V: 0 where every token was uniform, 1 where none was in
doubt (CASPO, arXiv 2605.07353). The entropy at a position does not depend on the token that was drawn there, so two
steps of one token after the same prefix are equally sure: it finds uncertain places, not wrong choices.

Where an engine gives the k likeliest tokens alone, with the tail mass r, the entropy lies in
[H_k − r log min(r, p_k), H_k + r log((V − k)/r)]: the tail has the least entropy where its mass lies on as few tokens
as p_k allows, and the most where it is uniform. [ours] Where one number is needed it is the interval's middle; the
interval closes for r = 0 and for k = V, and an engine that sees the whole vocabulary gives an exact value.

[ours] Log-probs below :data:`LOWEST` count as that, where they are averaged. A token that cannot be drawn has −inf, and
a running sum that −inf has entered is NaN ever after, which is below no bar.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from carerl.records.spread import TokenSpread, certainty_of
from carerl.records.spread import confidence_of as confidence_of  # of entropies from elsewhere

RULES = ("mean", "product", "minimum")
LOWEST = -100.0  # nats; exp of it is 0 in float32
RESOLUTION = 1e-7  # of a mass that is 1 less a sum of float32 probabilities
TIE = 1e-9  # confidences that differ by less are equal: it is the rounding of sums


def spread_of(logp_V: Tensor, top: int) -> TokenSpread:
    """Computes the spread of one distribution from the log-probs of the whole vocabulary. The entropy is exact."""
    return spreads_of(logp_V[None], top)[0]


def spreads_of(logp_BV: Tensor, top: int) -> list[TokenSpread]:
    """Computes the spread of each row of log-probs (normalised, any float dtype, −inf allowed), in float64.

    ``top``: how many of the likeliest tokens ``top_mean`` is over, all of them if there are fewer.
    """
    logp_BV = logp_BV.double()
    plogp_BV = (logp_BV.exp() * logp_BV).nan_to_num(nan=0.0)  # 0 · −inf
    bounded_BV = logp_BV.clamp(min=LOWEST)
    vocab = logp_BV.shape[1]
    top_mean_B = bounded_BV.topk(min(top, vocab), dim=1).values.mean(dim=1)
    certainty_B = certainty_of(bounded_BV.mean(dim=1), vocab)
    columns = (-plogp_BV.sum(dim=1), top_mean_B, certainty_B, logp_BV.amax(dim=1))
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [
        TokenSpread(max(entropy, 0.0), max(entropy, 0.0), mean, certainty, peak)
        for entropy, mean, certainty, peak in rows
    ]


def spread_of_top(logps: Sequence[float], vocab: int) -> TokenSpread:
    """Bounds the spread of one distribution from the log-probs (nats) of its k likeliest tokens, in any order.

    They are the k likeliest and nothing else: an engine that adds the drawn token to them gives k + 1 numbers, of which
    the drawn one is to be left out if it is not among the likeliest. Raises ValueError for none, and for more than the
    vocabulary has.

    ``certainty`` is a lower bound: a uniform tail has the greatest mean log-prob [ours: of a mass of at least
    :data:`RESOLUTION`, which is less certain still, and finite].
    """
    count = len(logps)
    if not 0 < count <= vocab:
        raise ValueError(f"{count} likeliest tokens of a vocabulary of {vocab}")
    mass = entropy = total = 0.0
    for logp in logps:
        probability = math.exp(logp)
        mass += probability
        entropy -= probability * logp if probability else 0.0
        total += logp if logp > LOWEST else LOWEST
    others, tail, least = vocab - count, 1.0 - mass, math.exp(min(logps))
    low = high = entropy
    if others and tail > 0 and least > 0:
        low -= tail * math.log(min(tail, least))
        high += tail * math.log(others / tail)
    unseen = others * max(LOWEST, math.log(max(tail, RESOLUTION) / others)) if others else 0.0
    certainty = certainty_of((total + unseen) / vocab, vocab)
    low = max(low, 0.0)
    return TokenSpread(low, max(low, high), total / count, certainty, max(logps))


def middle_entropy(spread: TokenSpread) -> float:
    """Returns the middle of the entropy's interval, nats."""
    return (spread.entropy_low + spread.entropy_high) / 2


def confidence_interval(spreads: Sequence[TokenSpread], vocab: int) -> tuple[float, float]:
    """Returns the bounds of the confidence of a step with these tokens; (1, 1) for none."""
    count = max(len(spreads), 1)
    highest, lowest = sum(s.entropy_high for s in spreads) / count, sum(s.entropy_low for s in spreads) / count
    return confidence_of(highest, vocab), confidence_of(lowest, vocab)


def step_confidence(spreads: Sequence[TokenSpread], vocab: int) -> float:
    """Returns the confidence of a step with these tokens, of the middle entropies; 1 for none."""
    return confidence_of(sum(map(middle_entropy, spreads)) / max(len(spreads), 1), vocab)


def step_confidences(spreads: Sequence[TokenSpread], ends: Sequence[int], vocab: int) -> tuple[float, ...]:
    """Returns the confidence of each step; ``ends`` as :meth:`carerl.inference.steps.Splitter.split` gives them."""
    starts = (0, *ends[:-1])
    return tuple(step_confidence(spreads[start:end], vocab) for start, end in zip(starts, ends, strict=True))


@dataclass(frozen=True, slots=True)
class Cumulative:
    """Holds the confidence of a response so far, and takes one step after another.

    ``mean``: over all of its tokens [ours: the paper says only that it is cumulative]. ``product`` and ``minimum``: of
    the steps' confidences. 1 before the first step.
    """

    rule: str
    tokens: int = 0
    value: float = 1.0

    def after(self, confidence: float, tokens: int) -> Cumulative:
        """Returns the state after one more step. Raises ValueError for a rule that there is not."""
        total = self.tokens + tokens
        if self.rule == "mean":
            value = (self.value * self.tokens + confidence * tokens) / total if total else 1.0
        elif self.rule == "product":
            value = self.value * confidence
        elif self.rule == "minimum":
            value = min(self.value, confidence)
        else:
            raise ValueError(f"cumulative rule {self.rule!r}: use one of {', '.join(RULES)}")
        return replace(self, tokens=total, value=value)

    def under(self, threshold: float) -> bool:
        """Returns True if the confidence is below a threshold by more than rounding."""
        return self.value < threshold - TIE


def cumulated(confidences: Sequence[float], ends: Sequence[int], rule: str) -> list[Cumulative]:
    """Returns the state after each step."""
    state, found = Cumulative(rule), []
    for confidence, start, end in zip(confidences, (0, *ends[:-1]), ends, strict=True):
        found.append(state := state.after(confidence, end - start))
    return found
