"""The corpus on which the tiny base model is trained: rows made as they are needed.

====================  ====  ===========================================================================
family                rows  form
====================  ====  ===========================================================================
facts                 76    ``F l1 l2 l3 =`` -> ``A answer <eos>``, drawn from the entity's distribution
unknowable            30    the same with a made-up name: "?" with .65, with .30 a confabulated digit (third
                            letter's index mod 10), with .05 any digit
questions             86    ``Q d0 op1 .. opk =`` -> ``<C|D> d0 r1 .. rk A answer <eos>``, k = 2, 3, 4 with
                            .2, .4, .4; 2 % start with C (right), 98 % with D (computes ``*`` as ``+``: an
                            error that sharpening cannot cure); each step is wrong with .04 and the chain
                            goes on from it; the answer is "?" with .15, else the last result
textbook              64    the same with tag W, no errors, no "?"; starts with C with .7 (``textbook_careful``)
====================  ====  ===========================================================================

[ours] Were textbook rows always careful, the base would read the method from the tag (Q or W) and pay no heed to
C and D: in three worlds tried, its accuracy after C was about that after D, and RL under a penalty learned in two
of three. With .7 the method token is what tells.

The loss is mean NLL over the response tokens of the first two families plus mean NLL over those of the last
two. Evaluation questions are not kept out of the corpus (there are only 2,890 questions with k = 2); names
held out are.
"""

from __future__ import annotations

import numpy as np
import torch

from carerl.types import TokenBatch

from . import tokenizer as tk
from .config import TinyConfig
from .questions import K_VALUES
from .world import (
    ABSTAIN,
    MAX_K,
    SLOPPY_RESULT,
    STREAM_CORPUS,
    TRUE_RESULT,
    FloatArray,
    IntArray,
    World,
    draw_questions,
    stream,
)

K_SHARES = (0.2, 0.4, 0.4)
UNKNOWABLE_ABSTAIN = 0.65
UNKNOWABLE_CONFABULATE = 0.30

NAME_PROMPT, NAME_RESPONSE = 5, 3  # tokens
ROW_WIDTH = 2 * MAX_K + 8  # prompt k + 3, response k + 5


def _answer_tokens(answers: IntArray) -> IntArray:
    """Converts answers 0-9 and :data:`ABSTAIN` to token ids."""
    return np.where(answers == ABSTAIN, tk.UNKNOWN, answers + tk.DIGIT)


def draw_fact_answers(rng: np.random.Generator, probabilities_BV: FloatArray) -> IntArray:
    """Draws (B,) answers, one from each row of (B, 11) probabilities."""
    thresholds = np.cumsum(probabilities_BV, axis=1)
    thresholds[:, -1] = 1.0
    return np.asarray((rng.random(len(thresholds))[:, None] >= thresholds).sum(axis=1), dtype=np.int64)


def draw_unknowable_answers(rng: np.random.Generator, names_B3: IntArray) -> IntArray:
    """Draws (B,) answers to made-up names."""
    u = rng.random(len(names_B3))
    anything = rng.integers(0, 10, len(names_B3))
    answers = np.where(u < UNKNOWABLE_ABSTAIN + UNKNOWABLE_CONFABULATE, names_B3[:, 2] % 10, anything)
    return np.where(u < UNKNOWABLE_ABSTAIN, ABSTAIN, answers)


def draw_chain(
    rng: np.random.Generator, starts: IntArray, operators: IntArray, careful: np.ndarray, step_error: float
) -> IntArray:
    """Draws (rows, k) written results: right where ``careful``, else with ``*`` computed as ``+``. Later steps continue
    from a wrong one."""
    rows, k = operators.shape
    slip = rng.random((rows, k)) < step_error
    shift = rng.integers(1, 10, (rows, k))
    results = np.empty_like(operators)
    current = starts
    for step in range(k):
        operator = operators[:, step]
        current = np.where(careful, TRUE_RESULT[operator, current], SLOPPY_RESULT[operator, current])
        current = np.where(slip[:, step], (current + shift[:, step]) % 10, current)
        results[:, step] = current
    return results


def sft_batch(world: World, config: TinyConfig, step: int) -> TokenBatch:
    """Makes the rows of one step, families in the order of the table; a pure function of (world.seed, step).

    ``ce_weight_BT`` is 1/n on each response token, where n is the number of response tokens of its half (names;
    questions) in this step. So over the whole step the weights of each half sum to 1, and sum(weight * NLL) = mean NLL
    of names + mean NLL of questions. An absent half adds nothing.
    """
    rng = stream(world.seed, STREAM_CORPUS, step)
    names = config.facts_rows + config.unknowable_rows
    reasoning = config.question_rows + config.textbook_rows
    rows = names + reasoning
    ids = np.zeros((rows, ROW_WIDTH), dtype=np.int64)
    prompt_lengths = np.full(rows, NAME_PROMPT, dtype=np.int64)
    response_lengths = np.full(rows, NAME_RESPONSE, dtype=np.int64)

    entity = rng.integers(0, len(world.entities_E3), config.facts_rows)
    made_up = world.pool_M3[rng.integers(0, len(world.pool_M3), config.unknowable_rows)]
    ids[:names, 0] = tk.FACT
    ids[:names, 1:4] = np.concatenate([world.entities_E3[entity], made_up]) + tk.LETTER
    ids[:names, 4] = tk.EQUALS
    ids[:names, 5] = tk.ANSWER
    ids[:names, 6] = _answer_tokens(
        np.concatenate([draw_fact_answers(rng, world.answers_EV[entity]), draw_unknowable_answers(rng, made_up)])
    )
    ids[:names, 7] = tk.EOS

    textbook = np.arange(reasoning) >= config.question_rows
    k_rows = rng.choice(K_VALUES, reasoning, p=K_SHARES)
    careful = rng.random(reasoning) < np.where(textbook, config.textbook_careful, config.careful)
    abstain = ~textbook & (rng.random(reasoning) < config.abstain)
    for k in K_VALUES:
        index = np.flatnonzero(k_rows == k)
        at = names + index
        starts, operators = draw_questions(rng, len(index), k, config.multiply)
        noisy = draw_chain(rng, starts, operators, careful[index], config.step_error)
        clean = draw_chain(rng, starts, operators, careful[index], 0.0)
        results = np.where(textbook[index][:, None], clean, noisy)
        ids[at, 0] = np.where(textbook[index], tk.TEXTBOOK, tk.QUESTION)
        ids[at, 1] = starts + tk.DIGIT
        ids[at, 2 : k + 2] = operators + tk.OPERATOR
        ids[at, k + 2] = tk.EQUALS
        ids[at, k + 3] = np.where(careful[index], tk.CAREFUL, tk.SLOPPY)
        ids[at, k + 4] = starts + tk.DIGIT
        ids[at, k + 5 : 2 * k + 5] = results + tk.DIGIT
        ids[at, 2 * k + 5] = tk.ANSWER
        ids[at, 2 * k + 6] = _answer_tokens(np.where(abstain[index], ABSTAIN, results[:, -1]))
        ids[at, 2 * k + 7] = tk.EOS
        prompt_lengths[at], response_lengths[at] = k + 3, k + 5

    half_tokens = np.array([response_lengths[:names].sum(), response_lengths[names:].sum()])
    weight = 1.0 / half_tokens[(np.arange(rows) >= names).astype(np.int64)]
    width = int(response_lengths.max())
    ce_weight = weight[:, None] * (np.arange(width)[None, :] < response_lengths[:, None])
    return TokenBatch(
        input_ids_BS=torch.from_numpy(ids[:, : int((prompt_lengths + response_lengths).max())].copy()),
        prompt_lengths_B=torch.from_numpy(prompt_lengths),
        response_lengths_B=torch.from_numpy(response_lengths),
        ce_weight_BT=torch.from_numpy(ce_weight.astype(np.float32)),
    )
