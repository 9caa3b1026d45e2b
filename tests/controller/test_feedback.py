"""What a policy says of its own responses: certainty, supports of answers and gains, against transformers alone; and
runs that are driven by them, in this process.

Not covered: the rewards and gains themselves (``rewards/``, ``distillation/``), rows and weights (``loss/``).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from carerl.algorithms import ALGORITHMS
from carerl.config.load import load
from carerl.controller.loops.distilling import hybrid, of_step, traces
from carerl.controller.loops.feedback import feedback, gain_metrics, supports_of
from carerl.distillation import DistillationConfig, progressive_gain, shuffled
from carerl.loss.batching import plan
from carerl.loss.distilled import Trace
from carerl.runs.tables import read_rollouts
from carerl.seeds import derived_seed
from carerl.tasks import TASKS
from carerl.tasks.tiny import tokenizer as tk
from carerl.tasks.tiny.task import TinyTask
from carerl.types import Example, Group, Outcome, Sample
from tests.actors.in_process import crew_in_process
from tests.controller.rehearsal.test_rehearsal import base_model  # noqa: F401 (a fixture)
from tests.controller.test_anchors import WORDS, measured, run, same, started, weights
from tests.metrics.declared import undeclared

SAID = ("C 3 7 4 9 A 9 <eos>", "D 3 7 A 1 <eos>", "A ? <eos>", "C 3 7 4", "")


def logits(model: Any, prompt: tuple[int, ...], response: tuple[int, ...]) -> torch.Tensor:
    """(T, V) log-probs that each response token was drawn from, by one plain forward pass."""
    with torch.no_grad():
        logp_SV = model(torch.tensor([[*prompt, *response]])).logits[0].float().log_softmax(-1)
    return logp_SV[len(prompt) - 1 : -1]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, base_model: Path) -> Any:  # noqa: F811
    """A context with a learner, and responses to one question; their certainties, supports and gains are filled in."""
    from transformers import AutoModelForCausalLM

    words = ["recipe=hytuning_tiny", "reward.name=certainty", "rollout.engine=hf"]
    words += ["model.base_recipe=", f"model.path={base_model}"]
    config = load([*words, "rollout.temperature=1"])
    task = TASKS["tiny"].build(config.task, config.seed)
    (example,) = task.train_examples(0, 1)
    samples = []
    for said in SAID:
        ids = tk.encode(said)
        outcome, answer = task.grade(example, ids, False)
        samples.append(Sample(example.id, ids, (0.0,) * len(ids), False, (0, 0), outcome, answer))
    with crew_in_process(monkeypatch) as crew:
        crew.learner.load(config, str(base_model))
        crew.learner.set_vocabulary(task.vocab_size)
        context = SimpleNamespace(config=config, task=task, tokenizer=task.make_tokenizer(), crew=crew)
        model = AutoModelForCausalLM.from_pretrained(base_model).eval()
        yield SimpleNamespace(context=context, group=Group(example, samples), model=model, splitter=task.splitter())


def test_supports_are_the_answers_log_probs_after_each_step(told: Any) -> None:
    """Also where no step is before the answer, or the steps end in the middle; each from a pass of its own, without a
    token that the response does not have."""
    group = told.group
    found = supports_of(told.context, [(group.example, sample) for sample in group.samples], told.splitter)
    expected = []
    for said, ends in ((SAID[0], (0, 3, 4, 5)), (SAID[1], (0, 3)), (SAID[2], (0,))):
        ids = tk.encode(said)
        mark = ids.index(tk.ANSWER)
        rows = [(*group.example.prompt_ids, *ids[:end], tk.ANSWER) for end in ends]
        expected.append([float(logits(told.model, row, ids[mark + 1 : mark + 2])[0, ids[mark + 1]]) for row in rows])
    assert [one.supports for one in found[:3]] == [pytest.approx(own, abs=1e-5) for own in expected]
    assert [one.supports for one in found[3:]] == [[], []]
    whole = logits(told.model, group.example.prompt_ids, tk.encode(SAID[0]))
    assert found[0].supports[-1] == pytest.approx(float(whole[6, tk.IDS["9"]]), abs=1e-5), "as the response was drawn"


def test_a_step_fills_in_what_its_run_needs(told: Any) -> None:
    group, context = told.group, told.context
    metrics = feedback(context, [group], 1, told.splitter)
    supports = [
        one.supports for one in supports_of(context, [(group.example, s) for s in group.samples], told.splitter)
    ]
    gains = [sample.gain for sample in group.samples]
    assert gains == [*(pytest.approx(progressive_gain(own), abs=1e-6) for own in supports[:3]), None, None]
    for sample, said in zip(group.samples, SAID, strict=True):
        ids = tk.encode(said)
        if not ids:
            assert sample.certainty is None and sample.entropy is None and sample.reward == 0.0
            continue
        logp_TV = logits(told.model, group.example.prompt_ids, ids)
        uniform = torch.full_like(logp_TV, 1 / tk.VOCAB_SIZE)
        certainty = (uniform * (uniform.log() - logp_TV)).sum(-1).mean()
        assert sample.certainty == pytest.approx(float(certainty), abs=1e-5) == sample.reward
        assert sample.entropy == pytest.approx(float(-(logp_TV.exp() * logp_TV).sum(-1).mean()), abs=1e-5)
    assert metrics["gain/unknown"] == pytest.approx(2 / 5) and not undeclared(set(metrics))
    totals = [abs(own[-1] - own[0]) for own in supports[:3]]
    assert totals[2] == 0 < min(totals[:2]) and totals[0] != totals[1], "one step, and two responses with more"
    context.config.distillation.least = sum(totals) / 2  # now one more gains nothing, and is known
    metrics = feedback(context, [group], 1, told.splitter)
    filtered = [0.0 if total < sum(totals) / 2 else gain for total, gain in zip(totals, gains[:3], strict=True)]
    assert [sample.gain for sample in group.samples] == [*(pytest.approx(x, abs=1e-6) for x in filtered), None, None]
    assert metrics["gain/negligible"] == pytest.approx(2 / 3) and metrics["gain/unknown"] == pytest.approx(2 / 5)
    context.config.distillation.least = 0.0
    context.config.distillation.last_step = False
    feedback(context, [group], 1, told.splitter)
    assert group.samples[0].gain == pytest.approx(progressive_gain(supports[0][:-1]), abs=1e-6)


@pytest.mark.parametrize("reward", ["certainty", "majority", "semantic"])
def test_another_gold_answer_changes_outcomes_and_nothing_that_is_trained(reward: str, told: Any) -> None:
    """Of responses with answers, some of which weigh something: the whole of rows, rewards and weights."""
    words = ["recipe=hytuning_tiny", f"reward.name={reward}", "rollout.temperature=1", "distillation.least=0"]
    task, found = told.context.task, []
    context = SimpleNamespace(**{**vars(told.context), "config": load(words)})
    for gold in ("9", "1"):
        example = replace(told.group.example, gold=gold)
        samples = []
        for said in (*SAID[:4], SAID[0], *(f"D 3 7 A {digit} <eos>" for digit in range(10))):
            ids = tk.encode(said)
            outcome, answer = task.grade(example, ids, False)
            samples.append(Sample(example.id, ids, (0.0,) * len(ids), False, (0, 0), outcome, answer))
        groups = [Group(example, samples)]
        feedback(context, groups, 1, told.splitter)
        mixed, _ = hybrid(context, [Trace((1,), (2,))], groups, 1)
        method = ALGORITHMS["grpo"].build(replace(context.config.algorithm, minibatches=1))
        planned = plan(groups, method, 1.0, 5, 1, hybrid=mixed)
        found.append(([sample.correct for sample in samples], [sample.reward for sample in samples], planned.batch))
    (right, rewards, batch), (other, same_rewards, same_batch) = found
    assert right != other and rewards == same_rewards and len(set(rewards)) > 1
    assert batch.policy_weight_BT.any() and batch.advantages_BT.any()
    for name in ("advantages_BT", "policy_weight_BT", "ce_weight_BT", "input_ids_BS", "regularizer_weight_BT"):
        assert torch.equal(getattr(batch, name), getattr(same_batch, name)), name


def test_how_well_gains_rank_is_measured_and_absent_where_it_cannot_be() -> None:
    def scored(supports: list[float], right: bool) -> Any:
        outcome = Outcome.CORRECT if right else Outcome.WRONG
        return SimpleNamespace(sample=Sample("q", (1,), (0.0,), False, (0, 0), outcome), supports=supports)

    settings = DistillationConfig(name="prg")
    up, down, bent = [-4.0, -3.0, -2.0], [-2.0, -3.0, -4.0], [-2.0, -3.0, -0.5]
    found = gain_metrics([scored(up, True), scored(down, False), scored(bent, True), scored([], False)], settings)
    assert found["gain/progressive_auroc"] == 1.0 and found["gain/total_auroc"] == 1.0
    assert found["gain/without_last_auroc"] == pytest.approx(0.75), "one right answer ties with the wrong one"
    assert found["gain/unknown"] == 0.25 and found["gain/total"] == pytest.approx((2 - 2 + 1.5) / 3)
    assert not any(name.endswith("auroc") for name in gain_metrics([scored(up, True)], settings))
    assert gain_metrics([scored([], True)], settings) == {"gain/unknown": 1.0}
    still = [-2.0, -2.002, -2.001]  # nothing but rounding, had it been less
    responses = [scored(up, True), scored(still, True), scored(bent[:2], False)]
    found = gain_metrics(responses, settings)
    assert found["gain/negligible"] == pytest.approx(1 / 3) and found["gain/progressive"] == pytest.approx(0, abs=1e-7)
    assert found["gain/progressive_auroc"] == 1.0 and "gain/unfiltered" not in found
    unfiltered = gain_metrics(responses, DistillationConfig(least=0))
    assert unfiltered["gain/progressive"] == pytest.approx((1 - 1 / 3 - 1) / 3, abs=1e-5)
    responses = [scored(still, True), scored([-2.0, -2.002, -2.003], False), scored([-2.0, -2.001], True)]
    found = gain_metrics(responses, settings)
    assert (found["gain/progressive_auroc"], found["gain/unfiltered_auroc"]) == (0.5, 1.0)
    assert gain_metrics([scored([-4, -3, -3.001], True)], DistillationConfig(last_step=False))["gain/negligible"] == 0
    assert gain_metrics([scored([-4, -4, -3], True)], DistillationConfig(last_step=False))["gain/negligible"] == 1


def test_traces_come_again_and_again_and_weights_follow_the_gains() -> None:
    found = [Trace((k,), (k,)) for k in range(3)]
    assert [trace.prompt_ids[0] for number in (1, 2) for trace in of_step(found, number, 4)] == [0, 1, 2, 0, 1, 2, 0, 1]
    assert [trace.prompt_ids[0] for number in (1, 2) for trace in of_step(found, number, 2)] == [0, 1, 2, 0]
    assert of_step([], 1, 4) == []
    config = load(["recipe=hytuning_tiny", "distillation.weight=.5", "distillation.floor=.2"])
    samples = [Sample("q", (1,), (0.0,), False, (0, 0), gain=gain) for gain in (1.0, 0.5, -0.5, None)]
    groups = [Group(Example("q", (1,), "1"), samples)]
    mixed, metrics = hybrid(SimpleNamespace(config=config), found, groups, 1)  # type: ignore[arg-type]
    assert mixed is not None and mixed.sample_weights == [1.0, 0.5, 0.0, 0.0]
    assert mixed.trace_weight == pytest.approx(0.5 * (0.2 + 0.8 * (1 - 1.5 / 4)))
    assert [sample.weight for sample in samples] == mixed.sample_weights
    assert metrics == {"distillation/response_weight": 0.375, "distillation/trace_weight": pytest.approx(0.7)}
    config.distillation.shuffle = True
    dealt, after = hybrid(SimpleNamespace(config=config), found, groups, 1)  # type: ignore[arg-type]
    seed = derived_seed(derived_seed(config.seed, 1), 17)
    order = [0.0 if gain is None else max(gain, 0.0) for gain in shuffled([s.gain for s in samples], seed)]
    assert dealt is not None and dealt.sample_weights == order and after == metrics
    assert [sample.weight for sample in samples] == order and samples[0].gain == 1.0, "their own gains stay"
    fixed, none = hybrid(SimpleNamespace(config=load(["recipe=mixture_tiny"])), found, groups, 1)  # type: ignore[arg-type]
    assert fixed is not None and fixed.sample_weights is None and fixed.trace_weight == 3 and none == {}
    assert hybrid(SimpleNamespace(config=load(["recipe=rlif_tiny"])), [], groups, 1) == (None, {})  # type: ignore[arg-type]


def test_one_question_in_a_hundred_is_labelled() -> None:
    config = load(["recipe=mixture_tiny"])
    task = TASKS["tiny"].build(config.task, config.seed)
    found = traces(config, task)
    assert len(found) == 64 and len({trace.prompt_ids for trace in found}) > 60  # of 200 steps of 32 questions
    examples = task.train_examples(0, 64)
    assert [trace.prompt_ids for trace in found] == [example.prompt_ids for example in examples]
    for example, trace in zip(examples, found, strict=True):
        assert task.grade(example, trace.response_ids, False)[0] is Outcome.CORRECT
    assert traces(load(["recipe=rlif_tiny"]), task) == []


@pytest.mark.slow
@pytest.mark.parametrize(("name", "reward"), [("none", "semantic"), ("mixture", "certainty"), ("prg", "majority")])
def test_gold_answers_of_unlabelled_questions_reach_nothing_but_metrics(
    name: str, reward: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base_model: Path  # noqa: F811
) -> None:  # fmt: skip
    own = ["recipe=rlif_tiny", "rehearse=false", f"reward.name={reward}", "tracking.rollouts_every=1"]
    if learns := name != "none":
        own += [f"distillation.name={name}", "distillation.labelled=.25"]
    config = load([*own, "steps=3", "prompts_per_step=4"])
    task = TASKS["tiny"].build(config.task, config.seed)
    learned = traces(config, task)
    true = started(monkeypatch, base_model, tmp_path / "true", *own)
    drawn = TinyTask.train_examples

    def garbage(task: TinyTask, start: int, n: int) -> list[Example]:
        found = enumerate(drawn(task, start, n), start)
        return [example if place < 3 else replace(example, gold=str(place % 10)) for place, example in found]

    monkeypatch.setattr(TinyTask, "train_examples", garbage)
    examples = [[example.gold for example in draw(task, 0, 12)] for draw in (drawn, garbage)]
    assert examples[0] != examples[1] and traces(config, task) == learned and len(learned) == 3 * learns
    false = started(monkeypatch, base_model, tmp_path / "false", *own)
    ends = weights(true), weights(false)
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    blind = [
        {
            k: v
            for k, v in row.items()
            if not k.endswith(("auroc", "accuracy", "informative_fraction")) and "right" not in k and "wrong" not in k
        }
        for rows in (measured(true), measured(false))
        for row in rows
    ]
    assert blind[:3] == blind[3:]
    told = [
        [(row["response_ids"], row["reward"], row["certainty"], row["gain"], row["weight"]) for row in rollouts(run)]
        for run in (true, false)
    ]
    assert told[0] == told[1] and {reward is None for _, reward, *_ in told[0]} == {False}
    assert {row[2] is None for row in told[0]} == {reward != "certainty"}


def rollouts(run: Any) -> list[dict[str, Any]]:
    """The rows of all rollout tables of a run."""
    return [row for path in sorted(Path(run.run_dir).glob("rollouts/*.parquet")) for row in read_rollouts(path)]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["hytuning_tiny", "rd_tiny"])
def test_a_run_that_was_stopped_goes_on_as_one_never_stopped(
    recipe: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base_model: Path  # noqa: F811
) -> None:  # fmt: skip
    rl = recipe == "hytuning_tiny"
    words = [word for word in WORDS if rl or not word.startswith("algorithm.")]
    own = [f"recipe={recipe}", *words, f"model.path={base_model}"]
    whole = run(monkeypatch, base_model, *own, f"run_dir={tmp_path / 'whole'}")
    stopped = run(monkeypatch, base_model, *own, f"run_dir={tmp_path / 'stopped'}", stop_at=1)
    assert (whole.status, stopped.status, stopped.step) == ("completed", "interrupted", 1)
    assert same(run(monkeypatch, base_model, f"resume={stopped.run_dir}"), whole)
    names = {name for row in measured(whole) for name in row}
    assert not undeclared(names) and ("gain/progressive" in names) is rl
    assert (names >= {"distillation/cross_entropy", "distillation/tokens", "distillation/share"}) is rl
    for row in measured(whole) if rl else ():
        assert row["train/ce_loss"] == pytest.approx(
            3 * row["distillation/trace_weight"] * row["distillation/cross_entropy"], rel=1e-5
        )
        assert row["distillation/share"] == pytest.approx(row["distillation/tokens"] / row["train/tokens"])
