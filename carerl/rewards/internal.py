r"""Internal rewards: what a policy says about its own responses, without any gold answer.

Reinforcement learning from internal feedback rewards a response for how sure the policy was of its tokens, or for how
many of the group's responses agree with it. Gold answers reach nothing but metrics.

============= ==================================================================================================
reward        of a response y of a group of G
============= ==================================================================================================
``certainty`` mean over its tokens of KL(uniform ‖ p) over the vocabulary, nats (:attr:`~carerl.types.Sample.certainty`)
``entropy``   minus the mean over its tokens of the entropy of p, nats (:attr:`~carerl.types.Sample.entropy`)
``majority``  1 if its answer is the group's most frequent one, else 0
``semantic``  the share of the group that gives its answer; 0 where no two responses give the same
============= ==================================================================================================

p: the policy that sampled, at the sampling temperature. ``certainty`` is the reward of Intuitor (X. Zhao et al., arXiv
2505.19590), ``majority`` that of TTRL (Y. Zuo et al., arXiv 2504.16084), ``entropy`` that of S. Agarwal et al.
(arXiv 2505.15134), ``semantic`` a share of semantic clusters, as in EMPO (Q. Zhang et al., arXiv 2504.05812).

[ours] 1. A response without tokens earns 0, of ``entropy`` as little as the group's worst; one without an answer 0 of
``majority`` and ``semantic``. It still counts in G. 2. Among equally frequent answers a seed decides, whatever the
order of the responses. Where all of G differ, each of them wins as often, and the mean push is none. 3. Saying that
one does not know is an answer. 4. Answers are read and compared without knowing the gold one
(:mod:`carerl.tasks.judging`). 5. The published runs rise and then fall, as the policy grows sure of anything: watch
``rollout/accuracy``, which no reward here sees.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from carerl.calibration import answer_shares, majority
from carerl.types import Group, Sample

from .base import InternalConfig

GroupReward = Callable[[Group, int], list[float]]
"""Returns a reward for each sample of a group. The number is a seed, for ties."""


@dataclass
class CertaintyConfig(InternalConfig):
    name: str = "certainty"

    @property
    def scored(self) -> bool:
        return True


@dataclass
class EntropyConfig(InternalConfig):
    name: str = "entropy"

    @property
    def scored(self) -> bool:
        return True


@dataclass
class MajorityConfig(InternalConfig):
    name: str = "majority"


@dataclass
class SemanticConfig(InternalConfig):
    name: str = "semantic"


def certainties(group: Group, seed: int) -> list[float]:
    """Returns the mean certainty of each response, nats; 0, the least there is, without tokens. Raises ValueError for
    one that nobody scored."""
    return [_scored(sample, sample.certainty, "certainty") if sample.response_ids else 0.0 for sample in group.samples]


def negative_entropies(group: Group, seed: int) -> list[float]:
    """Returns minus the mean token entropy of each response, nats; without tokens the least of the group, and not 0,
    which would be the most. Raises ValueError for one that nobody scored."""
    found = [-_scored(sample, sample.entropy, "entropy") if sample.response_ids else None for sample in group.samples]
    least = min((value for value in found if value is not None), default=0.0)
    return [least if value is None else value for value in found]


def _scored(sample: Sample, value: float | None, name: str) -> float:
    if value is None:
        raise ValueError(f"a sample of {sample.example_id} has no {name}: the learner has not scored it")
    return value


def majority_votes(group: Group, seed: int) -> list[float]:
    """Returns 1 for the responses with the group's most frequent answer, 0 for the others."""
    winner, _ = majority([sample.answer for sample in group.samples], group.example.id, seed)
    return [float(winner is not None and sample.answer == winner) for sample in group.samples]


def agreements(group: Group, seed: int) -> list[float]:
    """Returns the share of the group that gives the same answer as each response; all 0 where no two agree."""
    answers = [sample.answer for sample in group.samples]
    counts = Counter(answer for answer in answers if answer is not None)
    if not any(count > 1 for count in counts.values()):
        return [0.0] * len(answers)
    return answer_shares(answers)
