"""Prompts of the tiny world for anchors: none of them is asked in an evaluation.

==========  ======================================================================================
names       made-up names of the corpus: no evaluation asks for one of them, see ``world``
facts       entities that no suite asks for, those from ``task.evaluation_facts`` on
textbook    textbook questions (``W …``), a third of them with 2 operators, with 3 and with 4
random      as many tokens as a training prompt has, each any word but padding, ``<eos>``, ``<unk>``
==========  ======================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from . import tokenizer as tk
from .config import TinyConfig
from .questions import BLOCK, K_VALUES
from .world import STREAM_ANCHOR, World, draw_questions, name_prompt, question_prompt, stream

Prompt = tuple[int, ...]


def anchor_prompts(world: World, config: TinyConfig, source: str, start: int, n: int) -> list[Prompt]:
    """Returns positions ``start`` to ``start + n - 1`` of a source's endless sequence. It is drawn in blocks, each with
    its own generator. Raises KeyError for an unknown source, ValueError for one without prompts."""
    draw, number = SOURCES[source], list(SOURCES).index(source)
    first, last = start // BLOCK, (start + n - 1) // BLOCK
    drawn = [
        prompt
        for block in range(first, last + 1)
        for prompt in draw(stream(world.seed, STREAM_ANCHOR + number, block), world, config)
    ]
    return drawn[start - first * BLOCK :][:n]


def _names(rng: np.random.Generator, world: World, config: TinyConfig) -> list[Prompt]:
    return [name_prompt(world.pool_M3[row]) for row in rng.integers(0, len(world.pool_M3), BLOCK)]


def _facts(rng: np.random.Generator, world: World, config: TinyConfig) -> list[Prompt]:
    left = range(config.evaluation_facts, len(world.entities_E3))
    if not left:
        raise ValueError(f"every one of task.entities={config.entities} names is asked for in the evaluation")
    return [name_prompt(world.entities_E3[row]) for row in rng.integers(left.start, left.stop, BLOCK)]


def _textbook(rng: np.random.Generator, world: World, config: TinyConfig) -> list[Prompt]:
    found = []
    for k in rng.choice(K_VALUES, BLOCK):
        starts, operators = draw_questions(rng, 1, int(k), config.multiply)
        found.append((tk.TEXTBOOK, *question_prompt(int(starts[0]), operators[0])[1:]))
    return found


def _random(rng: np.random.Generator, world: World, config: TinyConfig) -> list[Prompt]:
    words = [token for token in range(tk.VOCAB_SIZE - 1) if token not in (tk.PAD, tk.EOS)]  # the last one is <unk>
    return [tuple(row) for row in rng.choice(words, (BLOCK, config.train_k + 3)).tolist()]


SOURCES: Mapping[str, Callable[[np.random.Generator, World, TinyConfig], list[Prompt]]] = {
    "names": _names,
    "facts": _facts,
    "textbook": _textbook,
    "random": _random,
}
