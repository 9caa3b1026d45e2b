"""The reference as a driver uses it: it scores what the policy sampled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from carerl.actors.handles.base import Handle, HeldBatch, shares


class Reference(Handle):
    """Sends calls to the actors that hold the frozen reference policy."""

    def head(self) -> Any:
        """Waits until the frozen head (V, D) is in the object store. Returns a pointer to it, for
        :meth:`carerl.actors.handles.learner.Learner.set_reference_head`."""
        found = self._actors[0].head.remote()
        self._ask.wait([found], "load")
        return found

    def streams(self, held: HeldBatch, hidden: bool) -> HeldBatch:
        """Has each actor score a contiguous share of the batch's rows; returns the batch with the streams.

        ``hidden``: True for the last hidden states (N, D) of the response tokens, False for (B, T) log-probs of the
        sampled tokens. Waits until the streams exist: a learner that got a stream still to come would be blocked and
        could not be asked whether it is alive.
        """
        parts = shares(self._actors, held.rows)
        found = [actor.streams.remote(held.batch, part.start, part.stop, hidden) for actor, part in parts]
        self._ask.wait(found, "reference")
        return replace(held, streams=tuple(found), hidden=hidden)
