"""The reference as a driver uses it: it scores what the policy sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from carerl.actors.handles.base import OF_ANCHORS, Handle, HeldBatch
from carerl.actors.handles.learner import Learner
from carerl.backends.learners.split import deal


class Reference(Handle):
    """Sends calls to the actors that hold the frozen reference policy."""

    def lend_head(self, learner: Learner) -> None:
        """Gives the learner the frozen head (V, D), once it is in the object store."""
        head = self._actors[0].head.remote()
        self._ask.wait([head], "load")
        learner.set_reference_head(head)

    def streams(self, held: HeldBatch, hidden: bool, anchors: Sequence[int] = ()) -> HeldBatch:
        """Has the actors score the batch's rows, dealt out by tokens; returns the batch with the streams. ``anchors``:
        rows of anchors that alone are scored, for their hidden states; () scores all rows.

        ``hidden``: True for the last hidden states (N, D) of the response tokens, False for log-probs of the sampled
        tokens. An actor makes one object for each rank of the learner, so that a rank gets its own rows and no others.
        Waits until the streams exist: a learner that got a stream still to come would be blocked and could not be asked
        whether it is alive.
        """
        parts: list[list[list[int]]] = [[[] for _ in range(held.ranks)] for _ in self._actors]
        rows = list(anchors) or list(range(held.rows))
        for row, actor in zip(rows, deal(held.lengths_B[rows], (), len(self._actors)), strict=True):
            parts[actor][held.owners[row]].append(row)
        found = [
            actor.streams.options(num_returns=held.ranks).remote(held.batch, own, hidden)
            for actor, own in zip(self._actors, parts, strict=True)
            if any(own)
        ]
        made = [[one] if held.ranks == 1 else list(one) for one in found]  # Ray gives one object without a list
        self._ask.wait([ref for refs in made for ref in refs], "reference")
        streams = tuple(tuple(refs[rank] for refs in made) for rank in range(held.ranks))
        return replace(held, scores=_named(hidden, anchors), streams=streams)


class ReferenceInLearner(Handle):
    """Stands for the reference that the learner's ranks share out. It has no actors, and nothing of it travels."""

    def __init__(self) -> None:
        super().__init__([])

    def lend_head(self, learner: Learner) -> None:
        """Does nothing: the ranks have the head."""

    def streams(self, held: HeldBatch, hidden: bool, anchors: Sequence[int] = ()) -> HeldBatch:
        """Returns the batch with a mark, so that the learner's ranks score each micro-batch just before they use it:
        for hidden states if ``hidden``, else for log-probs; with ``anchors`` those of anchors alone."""
        return replace(held, scores=_named(hidden, anchors), streams=())


def _named(hidden: bool, anchors: Sequence[int]) -> str:
    """Returns what a batch is scored for, see :class:`HeldBatch`."""
    return OF_ANCHORS if anchors else "hidden" if hidden else "logprobs"
