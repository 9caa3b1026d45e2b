"""Has the learner score responses and pairs: what confidences, references and the measures of steps are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from carerl.actors.handles.learner import Learner
from carerl.config.schema import RunConfig
from carerl.errors import ConfigError
from carerl.inference.steps import for_tokenizer
from carerl.loss.packing import pack_rows
from carerl.loss.preferred import plan_preferred
from carerl.preferences.judges import by_task
from carerl.preferences.measures import step_metrics
from carerl.preferences.records import Pair, Solution
from carerl.preferences.solutions import Scores, solution
from carerl.records.splitting import Splitter
from carerl.tasks import Task
from carerl.tasks.base import ChecksSteps, SplitsSteps
from carerl.tasks.coin_flips import EveryFew
from carerl.types import Example, Group, Sample

PAIRS_AT_ONCE = 128  # of a scoring pass, after which a stop is answered; each is two rows


def splitter_of(config: RunConfig, task: Task, tokenizer: Any) -> Splitter:
    """Returns what cuts a run's responses into steps: the task's own, or one for its tokenizer's text, which looks at
    its whole vocabulary. Raises ConfigError for a delimiter that the tokenizer cannot write, and for one beside steps
    of the task's own."""
    section, settings = ("preference", config.preference) if config.prefers else ("distillation", config.distillation)
    field, delimiter = f"{section}.delimiter", settings.delimiter
    if isinstance(task, SplitsSteps):
        if delimiter != type(settings).delimiter:
            reason = f"nothing would read it: task {config.task.name} has steps of its own"
            raise ConfigError(field, delimiter, reason, "leave it out")
        return task.splitter()
    if config.coin_seed is not None:
        return EveryFew()
    try:
        return for_tokenizer(tokenizer, delimiter)
    except ValueError as error:
        raise ConfigError(field, delimiter, str(error), rf'write {field}="\n", or another') from None


def cuts_responses(config: RunConfig) -> bool:
    """Returns True if a run of RL or of preferences looks at the steps of its responses."""
    return config.distillation.gains or (config.prefers and config.preference.judged)


def token_scores(
    learner: Learner, responses: Sequence[tuple[Example, Sample]], temperature: float
) -> dict[str, Tensor]:
    """Returns the learner's (B, T) streams of responses, see :meth:`Learner.log_probs`."""
    prompts = [example.prompt_ids for example, _ in responses]
    batch = pack_rows(prompts, [sample.response_ids for _, sample in responses], temperature)
    return learner.log_probs(learner.hold(batch))


def solved(
    responses: Sequence[tuple[Example, Sample]],
    scores: dict[str, Tensor],
    splitter: Splitter | None,
    vocab: int,
    prefixes: Sequence[int] = (),
) -> list[Solution]:
    """Cuts graded responses into steps. ``scores``: of :func:`token_scores`. ``splitter``: None takes a whole response
    for a step. ``prefixes``: how many of each one's tokens were given to the engine, the last of them the second most
    probable one; () for responses that were drawn freely."""
    found = []
    for row, (example, sample) in enumerate(responses):
        ids = sample.response_ids
        ends = (len(ids),) if splitter is None else splitter.split(ids)
        prefix = prefixes[row] if prefixes else 0
        found.append(solution(example, sample, ends, _row(scores, row, len(ids)), vocab, prefix, second=prefix > 0))
    return found


def _row(scores: dict[str, Tensor], row: int, tokens: int) -> Scores:
    entropies, peaks, logprobs = (scores[name][row, :tokens].tolist() for name in ("entropy", "peak", "logprobs"))
    return Scores(entropies, peaks, logprobs)


def pair_logprobs(
    learner: Learner, pairs: Sequence[Pair], temperature: float
) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Returns the learner's log-prob of each token of both steps of each pair, nats: chosen, then rejected."""
    if not pairs:
        return []
    planned = plan_preferred(pairs, temperature)
    found_BT = learner.log_probs(learner.hold(planned.batch))["logprobs"]
    rows = [found_BT[row, :tokens].tolist() for row, tokens in enumerate(planned.batch.response_lengths_B.tolist())]
    return [(tuple(rows[2 * k]), tuple(rows[2 * k + 1])) for k in range(len(pairs))]


def evaluated_steps(
    task: Task, suite: str, groups: Sequence[Group], few: int, scores: dict[str, Tensor]
) -> dict[str, float]:
    """Returns the measures of the steps of a suite's first ``few`` responses to each question; empty for a task that
    does not know which steps are right. ``scores``: the learner's streams, a row for each of these responses."""
    if not isinstance(task, ChecksSteps):
        return {}
    responses = [(group.example, sample) for group in groups for sample in group.samples[:few]]
    solutions = [
        by_task(one, task.step_labels(one.example, one.sample.response_ids))
        for one in solved(responses, scores, task.splitter(), task.vocab_size)
        if one.steps
    ]
    return step_metrics(suite, solutions, task.vocab_size)
