"""Draws a tree of steps and prunes its unsure branches: confidence-aware tree search, CaT (arXiv 2605.07353).

K branches start at the root. A branch ends after a step with which its cumulative confidence falls under a threshold.
Each branch that was pruned pays for a fork of a confident one, and the branches that are left vote, with their
cumulative confidence as weight.

Departures:
1. [ours] Branches do not wait for each other after each step: a floor prunes them in the engine, and forks follow when
   all have ended. The tree is the same: a branch is pruned by its own steps alone, and a fork begins where the branch
   that pays for it ended, after the same number of steps of the most confident branch there, or after its last but one.
2. [ours] The last live branch is never pruned: if all were, the one that came furthest goes on without a floor (of
   equals the most confident). It was not confident, so nothing is forked from it.
3. [ours] At most K branches are live, K forks are made, and K · length limit tokens are drawn. Of equal branches the
   one that was forked least is forked first, then the first by path. If no branch has an inner step, a fork begins at
   the root.
4. [ours] The last step of a response that ended by itself is not judged; it counts in the weight. So a threshold above
   1 prunes every branch with a step before its last, and those that ended within their first step live and vote; where
   there are none, one branch is left (2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from carerl.records.spread import TokenSpread

from ..base import Ask, Branch, Decoded, Method, Trace
from ..confidence import TIE, Cumulative, cumulated, step_confidences
from ..config import DecodeConfig
from ..context import Context, decoded
from ..floors import StepFloor, step_judge


def learns(decode: DecodeConfig) -> bool:
    """Returns True where validation gives the threshold."""
    return decode.cat.threshold < 0


def threshold_from(traces: Sequence[Trace], context: Context) -> float:
    """Returns the threshold that would prune the share ``cat.quantile`` of these traces, of those with a step that is
    judged; 0, which prunes nothing, if there are none. No engine shows a floor the token with which a response ends by
    itself, so a step that ends with it is not judged here either."""
    least = []
    for trace in traces:
        judge = step_judge(context.splitter, context.vocab, Cumulative(context.decode.cat.cumulative))
        spreads = context.spreads(trace)
        shown = len(spreads) - (trace.token_ids[-1] in context.stop_ids)
        states = [judge(token, spread) for token, spread in zip(trace.token_ids[:shown], spreads, strict=False)]
        judged = [state.value for state in states if state is not None]
        least += [min(judged)] if judged else []
    return float(np.quantile(least, context.decode.cat.quantile)) if least else 0.0


def cat(context: Context) -> Method:
    """Grows the tree in rounds: the roots, then forks for what was pruned."""
    tree = _Tree(context)
    asks = tree.roots()
    rounds = 0
    while asks:
        tree.take((yield asks))
        asks = tree.next()
        rounds += 1
    return tree.decoded(rounds)


@dataclass(eq=False)
class _Node:
    """One branch as it grows. ``shared``: tokens that its parent drew. ``ends`` … ``states``: one a step."""

    path: tuple[int, ...]
    parent: int = -1
    shared: int = 0
    token_ids: tuple[int, ...] = ()
    spreads: tuple[TokenSpread, ...] = ()
    ends: tuple[int, ...] = ()
    confidences: tuple[float, ...] = ()
    states: list[Cumulative] = field(default_factory=list)
    pruned: bool = False
    truncated: bool = False
    rescued: bool = False
    forks: int = 0


class _Tree:
    """Holds the branches of one question in the order in which they were asked for."""

    def __init__(self, context: Context) -> None:
        self._context = context
        settings = context.decode.cat
        self._threshold = context.threshold if learns(context.decode) else settings.threshold
        self._rule, self._reallocate = settings.cumulative, settings.reallocate
        self._nodes: list[_Node] = []
        self._asked: list[_Node] = []  # those that wait for a trace
        self._payers: list[_Node] = []  # pruned branches that have not paid for a fork yet
        self._forks = 0

    def roots(self) -> list[Ask]:
        """Asks for the first K branches."""
        return [self._ask(self._root()) for _ in range(self._context.decode.budget)]

    def take(self, traces: Sequence[Trace]) -> None:
        """Takes the traces of what was asked for last."""
        for node, trace in zip(self._asked, traces, strict=True):
            node.token_ids += trace.token_ids
            node.spreads += tuple(self._context.spreads(trace))
            node.ends = self._context.splitter.split(node.token_ids)
            node.confidences = step_confidences(node.spreads, node.ends, self._context.vocab)
            node.states = cumulated(node.confidences, node.ends, self._rule)
            node.pruned, node.truncated = not self._context.ended(trace), trace.truncated
            if node.pruned:
                self._payers.append(node)
        self._asked = []

    def next(self) -> list[Ask]:
        """Returns the asks of the next round; none if the tree is complete."""
        if all(node.pruned for node in self._nodes):
            return self._rescue()
        sources = [node for node in self._nodes if not node.pruned and not node.rescued]
        left = self._context.limit - sum(len(node.token_ids) - node.shared for node in self._nodes)
        asks: list[Ask] = []
        while self._reallocate and sources and self._payers and self._forks < self._context.decode.budget:
            fork = self._fork(sources, self._payers[0])
            left -= self._context.max_new_tokens - fork.shared
            if left < 0:
                break
            asks.append(self._ask(fork))
            self._payers.pop(0)
            self._forks += 1
        return asks

    def decoded(self, rounds: int) -> Decoded:
        """Returns the branches, weighted by their cumulative confidence."""
        facts = {
            "threshold": self._threshold,
            "pruned": sum(node.pruned for node in self._nodes),
            "forks": self._forks,
            "shared": sum(node.shared for node in self._nodes),
            **self._context.width([spread for node in self._nodes for spread in node.spreads[node.shared :]]),
        }
        return decoded(map(_branch, self._nodes), rounds, facts)

    def _ask(self, node: _Node) -> Ask:
        """Asks for the rest of a branch, and counts it among the tree's."""
        self._nodes.append(node)
        self._asked.append(node)
        state = node.states[-1] if node.states else Cumulative(self._rule)
        context = self._context
        floor = StepFloor(self._threshold, context.vocab, context.splitter, state, node.token_ids)
        return context.ask(node.path, node.token_ids, floor)

    def _root(self) -> _Node:
        return _Node((sum(len(node.path) == 1 for node in self._nodes),))

    def _fork(self, sources: Sequence[_Node], payer: _Node) -> _Node:
        """Makes the branch that a pruned one pays for."""
        inner = [node for node in sources if len(node.ends) > 1]
        if not inner:
            return self._root()
        fewest = min(node.forks for node in inner)
        inner = [node for node in inner if node.forks == fewest]
        best = _most_confident(inner, [node.states[_cut(node, payer) - 1].value for node in inner])
        best.forks += 1
        cut = _cut(best, payer)
        shared = best.ends[cut - 1]
        owner = best
        while shared <= owner.shared:  # it is the parent that drew this step
            owner = self._nodes[owner.parent]
        parent = next(number for number, node in enumerate(self._nodes) if node is owner)
        return _Node(
            path=(*owner.path, 1 + sum(node.parent == parent for node in self._nodes)),
            parent=parent,
            shared=shared,
            token_ids=best.token_ids[:shared],
            spreads=best.spreads[:shared],
            states=best.states[:cut],
        )

    def _rescue(self) -> list[Ask]:
        """Lets the branch that came furthest go on. Its path goes on with 0, which no fork has."""
        furthest = max(len(node.ends) for node in self._nodes)
        nodes = [node for node in self._nodes if len(node.ends) == furthest]
        node = _most_confident(nodes, [node.states[-1].value for node in nodes])
        self._payers.remove(node)
        node.pruned, node.rescued = False, True
        node.truncated = len(node.token_ids) == self._context.max_new_tokens
        if node.truncated:
            return []
        self._asked = [node]
        return [self._context.ask((*node.path, 0), node.token_ids)]


def _cut(node: _Node, payer: _Node) -> int:
    """Returns how many steps of a branch a fork shares: as many as the payer has, and not the last one."""
    return min(len(payer.ends), len(node.ends) - 1)


def _most_confident(nodes: Sequence[_Node], values: Sequence[float]) -> _Node:
    """Returns the node with the largest value; of those that equal it but for rounding the first by path."""
    best = max(values)
    return min((n for n, value in zip(nodes, values, strict=True) if value >= best - TIE), key=lambda node: node.path)


def _branch(node: _Node) -> Branch:
    return Branch(
        path=node.path,
        token_ids=node.token_ids,
        own=len(node.token_ids) - node.shared,
        parent=node.parent,
        steps=node.ends,
        confidences=node.confidences,
        pruned=node.pruned,
        truncated=node.truncated,
        weight=node.states[-1].value,
    )
