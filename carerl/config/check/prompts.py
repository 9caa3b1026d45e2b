"""Says what a plan and a run should tell about prompts, where data and tokenizer are here. The hub is never asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from carerl.anchors import RANDOM
from carerl.config.check.at_hand import check_model_dir, check_task, local_tokenizer
from carerl.config.check.distillation import labelled_questions
from carerl.config.lengths import suite_lengths
from carerl.config.load import base_config
from carerl.config.schema import RunConfig
from carerl.config.shapes import looks_local
from carerl.errors import ConfigError
from carerl.tasks import TASKS, Task, TextTask
from carerl.tasks.base import TracesTask
from carerl.tasks.benchmarks.config import TextConfig
from carerl.tasks.benchmarks.table import find_benchmark
from carerl.tasks.byte_tokenizer import make_byte_tokenizer
from carerl.tasks.chat_templates import TemplateError
from carerl.tasks.prompts import PromptLengths
from carerl.tasks.taught import TaughtRows


def own_tokenizer(config: RunConfig, task: Task) -> Any:
    """Returns the tokenizer of a base model that is not made yet; None if neither task nor base recipe has one."""
    if config.model.base_recipe and not base_config(config).does.trains:
        return make_byte_tokenizer(context=config.model.shape.context_length)
    return task.make_tokenizer()


@contextmanager
def refusals(config: RunConfig, model_dir: str) -> Iterator[None]:
    """Turns what tasks and tokenizers raise for settings and files that do not fit into a ConfigError."""
    try:
        yield
    except ConfigError:
        raise
    except TemplateError as error:
        remedy = "mend it (chat_template.jinja or tokenizer_config.json of the model), or give another model"
        raise ConfigError("model.path", model_dir or config.model.path, str(error), remedy) from error
    except (ValueError, OSError) as error:
        where = f"task {config.task.name}" + (f", model {model_dir}" if model_dir else "")
        raise ConfigError("task", where, str(error), "correct the setting or the file that it names") from error


def planned_prompts(config: RunConfig) -> tuple[str, ...]:
    """Returns lines about the prompts of a run on text; none for another run. Without data and tokenizer on this
    machine the line says what was not at hand. Raises ConfigError for what the run would be refused for."""
    if not config.trains_on_questions or not isinstance(config.task, TextConfig):
        return ()
    limit = f"training prompts of more than {config.task.max_prompt_tokens:,} tokens are dropped"
    missing = data_missing(config)
    if missing:
        return (f"{limit}; not counted: {missing[0]} is not on this machine",)
    with refusals(config, config.model.path):
        task = TASKS[config.task.name].build(config.task, config.seed)
        tokenizer = _tokenizer_at_hand(config, task)
        if tokenizer is None:
            return (f"{limit}; not counted: the tokenizer of {config.model.path} is not on this machine",)
        task.attach(tokenizer)
        check_task(task, config)
        return tuple(prompt_lines(config, task))


def data_missing(config: RunConfig) -> list[str]:
    """Returns the names of the data sets of a run over text that are not in a file here, so that the hub is asked for
    them."""
    task, anchor = config.task, config.anchor
    assert isinstance(task, TextConfig)
    anchors = anchor.source if anchor.on and anchor.source != RANDOM else ""
    traces = config.distillation.traces if config.distillation.learns else ""
    names = [name for name in (task.train, *task.benchmarks, anchors, traces) if name]
    return [name for name in names if not find_benchmark(name).at_hand(task.data_dir)]


def _tokenizer_at_hand(config: RunConfig, task: Task) -> Any:
    path = config.model.path
    if not path:
        return own_tokenizer(config, task)
    if looks_local(path):
        if not Path(path).expanduser().is_dir():
            return None
        return check_model_dir(path, config)
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(path, "tokenizer_config.json")
    return local_tokenizer(path, config.model.trust_remote_code) if isinstance(cached, str) else None


def prompt_lines(config: RunConfig, task: Task) -> list[str]:
    """Returns what a person should know about the prompts of a task over text, and of any task how many labelled
    traces it has."""
    if not isinstance(task, TextTask):
        return [f"traces to learn: {made:,}"] if (made := _endless_traces(config, task)) else []
    lines = [_training_line(task.training_lengths())] if config.trains_on_questions else []
    if (taught := task.taught) is not None:
        lines.append(_taught_line("responses", taught))
    if (traced := task.traced) is not None:
        lines.append(_taught_line("traces", traced))
    if task.config.thinking == "off" and not task.can_stop_thinking():
        lines.append("task.thinking=off: the chat template has no switch for that, so nothing tells the model")
    for suite in task.suites() if config.evaluates else ():
        found = suite_lengths(config, suite)
        if found.too_long:
            lines.append(
                f"evaluation {suite.name}: {len(found.too_long):,} of {found.questions:,} questions are not asked, as "
                f"their prompts have more than {found.room:,} tokens and leave no room for an answer "
                f"({_longest(found)}); they are counted beside accuracy"
            )
    return lines


def _training_line(found: PromptLengths) -> str:
    if not found.too_long:
        return f"training prompts: all {found.questions:,} are used ({_longest(found)})"
    return (
        f"training prompts: {len(found.too_long):,} of {found.questions:,} have more than {found.room:,} tokens "
        f"(task.max_prompt_tokens) and are dropped ({_longest(found)})"
    )


def _taught_line(what: str, found: TaughtRows) -> str:
    head = f"{what} to learn: {len(found.targets):,} of {found.questions:,} (task.teach={found.teach})"
    left_out = found.left_out()
    return f"{head}; left out: {', '.join(left_out)}" if left_out else head


def _endless_traces(config: RunConfig, task: Task) -> int:
    """Returns how many labelled traces a run makes of questions that are no text; 0 where it learns none."""
    if not (config.trains_on_questions and config.distillation.learns and isinstance(task, TracesTask)):
        return 0
    return len(task.traces(labelled_questions(config, task)))


def _longest(found: PromptLengths) -> str:
    return f"the longest, {found.longest[0]}, has {found.longest[1]:,}"


def prompt_record(config: RunConfig, task: Task) -> dict[str, Any]:
    """Returns the same as plain values, for a run's summary."""
    if not isinstance(task, TextTask):
        return {"traces": {"taught": made}} if (made := _endless_traces(config, task)) else {}
    suites = {
        suite.name: suite_lengths(config, suite).record() for suite in (task.suites() if config.evaluates else ())
    }
    training = {"training": task.training_lengths().record()} if config.trains_on_questions else {}
    if task.taught is not None:
        training |= {"taught": task.taught.record()}
    if task.traced is not None:
        training |= {"traces": task.traced.record()}
    return training | ({"evaluation": suites} if suites else {})
