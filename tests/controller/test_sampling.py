"""Dynamic sampling: which prompts are drawn, which groups are taken, what is counted.

Real engines and the data position in a whole run are tests/e2e's."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from carerl.actors.handles.base import HeldBatch
from carerl.algorithms import ALGORITHMS
from carerl.controller.rollout_table import rollout_rows, token_scores
from carerl.controller.sampling import Quota, Source, collect, rollout_metrics
from carerl.decisions import DecisionConfig
from carerl.loss.batching import StepBatch, make_batch, plan
from carerl.runs.tables import ROLLOUT_COLUMNS
from carerl.tasks import ASKS_CONFIDENCE
from carerl.types import Decision, Example, Group, Outcome, Sample

SIZE = 4
OWN = ("certainty", "entropy", "gain", "weight")  # what a run with internal rewards or gains says of a response


class Engines:
    """Groups by prompt: ``right[i]`` of the four responses to prompt i are right, and they end in round ``rounds[i]``
    after the one that they were submitted in. A round is worked when it is waited for, in its place among the
    submissions. Notes what is asked for and when."""

    def __init__(self, right: list[int], rounds: list[int] | None = None) -> None:
        self.right, self.rounds = right, rounds or [1]
        self.log: list[str] = []
        self.queue: list[tuple[int, int] | None] = []  # prompts submitted, or None for a round
        self.left: dict[int, int] = {}  # rounds that a prompt still takes
        self.most = 0

    def submit(self, first: int, n: int) -> None:
        self.log.append(f"draw {first}+{n}")
        self.queue.append((first, n))

    def advance(self):
        self.queue.append(None)

        def wait() -> list[tuple[int, Group]]:
            while (prompts := self.queue.pop(0)) is not None:
                first, n = prompts
                self.left |= {i: self.rounds[i % len(self.rounds)] for i in range(first, first + n)}
                self.most = max(self.most, len(self.left))
            self.left = {i: left - 1 for i, left in self.left.items()}
            done = [i for i, left in self.left.items() if left == 0]
            for i in done:
                del self.left[i]
            return [(i, self._group(i)) for i in done]

        return wait

    def grade(self, groups: list[Group]) -> list[Group]:
        waiting = sum(entry is None for entry in self.queue)
        self.log.append(f"grade {' '.join(str(i) for i in ids(groups))} | {len(self.left)} left, {waiting} queued")
        for group in groups:
            right = self.right[int(group.example.id) % len(self.right)]
            for k, sample in enumerate(group.samples):
                sample.outcome = Outcome.CORRECT if k < right else Outcome.WRONG
                sample.reward = 1.0 if sample.correct else 0.0
        return groups

    def _group(self, i: int) -> Group:
        samples = [Sample(str(i), (5, 1), (-0.1, -0.2), False, (0, 0)) for _ in range(SIZE)]
        return Group(Example(str(i), (2, 3), "7"), samples)

    def collect(self, wanted: int, max_draws: int, expected: float = 1.0, select: bool = True, room: int = 1000):
        phase = lambda name: nullcontext()  # noqa: E731
        source, quota = Source(self.submit, self.advance, self.grade), Quota(wanted, expected, room, select, max_draws)
        return collect(source, quota, phase)


def ids(groups: list[Group]) -> list[int]:
    return [int(group.example.id) for group in groups]


def test_without_selection_all_is_drawn_at_once_and_worked_to_the_end():
    engines = Engines([0, 4, 2])
    rollouts, _ = engines.collect(wanted=6, max_draws=1, select=False, room=2)
    assert engines.log == ["draw 0+6", "grade 0 1 2 3 4 5 | 0 left, 0 queued"]
    assert ids(rollouts.groups) == list(range(6)) and rollouts.missing == 0


def test_pitfall_16_groups_all_right_or_all_wrong_are_replaced_by_fresh_prompts():
    engines = Engines([4, 1, 0, 3])  # every other one is informative
    rollouts, rate = engines.collect(wanted=4, max_draws=4)
    assert ids(rollouts.groups) == [1, 3, 5, 7], "in the order of the prompts"
    assert ids(rollouts.generated) == list(range(len(rollouts.generated))), "each prompt once"
    assert rollouts.missing == 0
    n = len(rollouts.generated)  # all four of four were expected, and every other one was seen to be
    assert rate == pytest.approx((4 + n // 2) / (4 + n))


def test_pitfall_16_selection_is_by_outcome_and_not_by_shaped_reward():
    engines = Engines([4, 2])
    graded = engines.grade

    def shaped(groups: list[Group]) -> list[Group]:
        for group in graded(groups):
            for k, sample in enumerate(group.samples):
                sample.reward = 0.5 if group.example.id in "13579" else 1.0 - k / 100  # as a length penalty does
        return groups

    engines.grade = shaped  # type: ignore[method-assign]
    rollouts, _ = engines.collect(wanted=2, max_draws=4)
    assert ids(rollouts.groups) == [1, 3], "even prompts are all right, whatever their rewards"


@pytest.mark.parametrize("right", [[0], [4]])
def test_pitfall_16_refilling_is_bounded_and_what_is_missing_is_counted(right):
    engines = Engines(right)
    rollouts, rate = engines.collect(wanted=4, max_draws=3)
    assert len(rollouts.generated) == 12
    assert ids(rollouts.groups) == [0, 1, 2, 3] and rollouts.missing == 4
    assert rate == pytest.approx(4 / 16)
    dapo = ALGORITHMS["dapo"]
    planned = StepBatch(make_batch(rollouts.groups, dapo.build(dapo.config()), 1.0), [], 0)
    assert not planned.takes_part_B.any(), "a batch without information moves nothing"
    metrics = rollout_metrics(rollouts, planned)
    assert metrics["rollout/tokens"] == 0 and metrics["rollout/missing_groups"] == 4
    assert not any(row["trained"] or row["advantage"] is not None for row in rollout_rows(str, 1, rollouts, planned))


def test_pitfall_16_dropped_groups_are_counted_where_they_are_not_replaced_too():
    rollouts, _ = Engines([4, 2]).collect(wanted=6, max_draws=1)
    assert rollouts.missing == 3 and len(rollouts.generated) == 6
    dapo = ALGORITHMS["dapo"]
    planned = StepBatch(make_batch(rollouts.groups, dapo.build(dapo.config()), 1.0), [], 0)
    assert rollout_metrics(rollouts, planned)["rollout/tokens"] == 3 * SIZE * 2
    rows = rollout_rows(str, 1, rollouts, planned)
    assert {row["example_id"] for row in rows if row["trained"]} == {"1", "3", "5"}


def test_pitfall_16_counters_count_what_was_thrown_away():
    engines = Engines([4, 4, 4, 2])
    rollouts, _ = engines.collect(wanted=2, max_draws=5)
    dapo = ALGORITHMS["dapo"]
    planned = StepBatch(make_batch(rollouts.groups, dapo.build(dapo.config()), 1.0), [], 0)
    metrics = rollout_metrics(rollouts, planned)
    n = len(rollouts.generated)
    assert ids(rollouts.groups) == [3, 7] and n >= 8
    assert metrics["rollout/groups"] == n
    assert metrics["rollout/generated_tokens"] == n * SIZE * 2
    assert metrics["rollout/tokens"] == 2 * SIZE * 2
    assert metrics["rollout/accuracy"] == pytest.approx(sum(engines.right[i % 4] for i in range(n)) / (4 * n))
    rows = rollout_rows(str, 1, rollouts, planned)
    assert len(rows) == n * SIZE
    assert [row["example_id"] for row in rows if row["trained"]] == ["3"] * SIZE + ["7"] * SIZE
    assert {row[name] for row in rows for name in OWN} == {None}
    rollouts.generated[1].samples[2].weight, rollouts.generated[1].samples[2].gain = 0.5, -0.25
    rollouts.generated[1].samples[2].certainty, rollouts.generated[1].samples[2].entropy = 3.0, 0.0
    row = rollout_rows(str, 1, rollouts, planned)[SIZE + 2]
    assert [row[name] for name in OWN] == [3.0, 0.0, -0.25, 0.5]
    assert all((row["advantage"] is None) == (not row["trained"]) for row in rows)
    assert sum(row["advantage"] for row in rows if row["trained"]) == pytest.approx(0, abs=1e-6)


def test_responses_without_the_confidence_that_was_asked_for_are_counted():
    rollouts, _ = Engines([4, 2]).collect(wanted=2, max_draws=2)
    dapo = ALGORITHMS["dapo"]
    planned = StepBatch(make_batch(rollouts.groups, dapo.build(dapo.config()), 1.0), [], 0)
    assert "rollout/unstated_fraction" not in rollout_metrics(rollouts, planned)
    asked, other = rollouts.generated[:2]
    asked.example = replace(asked.example, meta={ASKS_CONFIDENCE: True})
    for group in (asked, other):
        group.samples[0].stated_confidence = 0.0  # stated, and unsure
    assert rollout_metrics(rollouts, planned)["rollout/unstated_fraction"] == pytest.approx((SIZE - 1) / SIZE)


def test_engines_decode_while_groups_are_graded_and_prompts_join_the_running_batch():
    engines = Engines([4, 2, 0, 2, 1], rounds=[1, 5, 2, 9, 3])
    rollouts, _ = engines.collect(wanted=8, max_draws=4)
    joined = 0
    for event, later in zip(engines.log, engines.log[1:], strict=False):
        if event.startswith("grade"):
            left, queued = (int(part.split()[0]) for part in event.split("|")[1].split(","))
            assert queued == 1, f"nothing to do for the engines at {event}: {engines.log}"
            joined += left > 0 and later.startswith("draw")
    assert joined >= 2, "nothing was drawn before the last response had ended"
    assert rollouts.missing == 0


def test_long_responses_are_waited_for_and_groups_taken_in_the_order_of_their_prompts():
    engines = Engines([2, 2, 4], rounds=[20, 1, 1])
    rollouts, _ = engines.collect(wanted=4, max_draws=4, expected=0.5)
    assert ids(rollouts.groups) == [0, 1, 3, 4]
    assert ids(rollouts.generated) == list(range(len(rollouts.generated)))


def test_no_more_is_under_way_than_there_is_room_for():
    wide, narrow = Engines([4, 4, 4, 2], rounds=[1, 3, 2]), Engines([4, 4, 4, 2], rounds=[1, 3, 2])
    everything, _ = wide.collect(wanted=8, max_draws=8, expected=0.1)
    rollouts, _ = narrow.collect(wanted=8, max_draws=8, expected=0.1, room=10)
    assert wide.most == 64 and narrow.most == 10
    assert ids(rollouts.groups) == ids(everything.groups) and rollouts.missing == 0
    assert len(rollouts.generated) < len(everything.generated) == 64, "what is decided later is decided better"


def test_in_place_of_one_group_more_than_one_prompt_is_drawn():
    engines = Engines([4, *[2] * 15, 4, 4, 2])  # one of the first sixteen is missing, and so are the next two
    rollouts, _ = engines.collect(wanted=16, max_draws=4)
    sizes = [int(event.split("+")[1]) for event in engines.log if event.startswith("draw")]
    assert sizes == [16, 2, 2] and rollouts.missing == 0


def test_as_many_are_drawn_as_the_last_steps_let_expect():
    engines = Engines([4, 4, 4, 2])
    rollouts, _ = engines.collect(wanted=4, max_draws=10, expected=0.25)
    assert engines.log[0] == "draw 0+16", "4 / .25, before this step has shown anything"
    assert rollouts.missing == 0 and len(rollouts.generated) == 16


@pytest.mark.parametrize("wanted", [1, 3, 8])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("expected", [1e-6, 0.3, 1.0])
@pytest.mark.parametrize("room", [1, 7, 1000])
def test_it_ends_within_the_bound_and_takes_the_first_informative_groups(wanted, share, expected, room):
    right = [2 if math.floor((i + 1) * share) > math.floor(i * share) else 4 for i in range(100)]
    rollouts, rate = Engines(right, rounds=[1, 4, 2, 1, 7]).collect(wanted, 5, expected, room=room)
    drawn = len(rollouts.generated)
    assert wanted <= drawn <= 5 * wanted and len(rollouts.groups) == wanted
    good = [i for i in range(drawn) if right[i] == 2]
    assert ids(rollouts.groups)[: wanted - rollouts.missing] == good[:wanted]
    assert (rollouts.missing == 0) == (len(good) >= wanted)
    assert rollouts.missing == 0 or drawn == 5 * wanted, "nothing is missing before the bound is reached"
    assert 0 <= rate <= 1


def test_token_values_are_those_of_the_samples_own_row_and_end_with_its_response():
    """Groups 1 and 3 are trained on. Row r of the batch holds 10 r + t at token t; 7 stands beyond the responses."""
    rollouts, _ = Engines([4, 2]).collect(wanted=2, max_draws=2)
    dapo = ALGORITHMS["dapo"]
    planned = StepBatch(make_batch(rollouts.groups, dapo.build(dapo.config()), 1.0), [], 0)
    stream_BT = 10.0 * torch.arange(2 * SIZE)[:, None] + torch.arange(3)
    stream_BT[:, 2] = 7.0
    rows = rollout_rows(lambda ids: "".join("abcdef"[i] for i in ids), 1, rollouts, planned, {"rkl": stream_BT})
    found = [row["token_rkl"] for row in rows if row["example_id"] in ("1", "3")]
    assert found == [[10.0 * r, 10.0 * r + 1] for r in range(2 * SIZE)]
    assert {row["example_id"] for row in rows if row["token_rkl"] is None} == {"0", "2"}, "never in the batch"
    assert all(row["response_ids"] == [5, 1] and row["token_text"] == ["f", "b"] for row in rows)
    assert all(row["token_logprob"] == [-0.1, -0.2] for row in rows)
    assert "token_rkl" not in rollout_rows(str, 1, rollouts, planned)[0]


def test_a_rollout_table_says_what_a_reward_was_for():
    """A response that begins with its decision, masked there; the reward is for the likeliest option."""
    rollouts, _ = Engines([2]).collect(wanted=2, max_draws=2)
    off, last, alone, _ = rollouts.groups[0].samples
    for sample, position, chosen in ((off, 0, "A"), (last, 1, "B"), (alone, 0, "B")):
        sample.decision = Decision(position, chosen, {"A": 5, "B": 1}, ("B",))
        sample.option_probs = (0.25, 0.75)
    off.outcome, off.reward, off.argmax_outcome = Outcome.WRONG, 1.0, Outcome.CORRECT
    alone.response_ids, alone.rollout_logprobs = (1,), (-0.1,)
    grpo = ALGORITHMS["grpo"]
    planned = plan(rollouts.groups, grpo.build(grpo.config()), 1.0, 0, 1, DecisionConfig(name="ce", reward="argmax"))
    assert planned.batch.advantages_BT is not None and planned.batch.advantages_BT[0, 0] == 0
    rows = rollout_rows(str, 1, rollouts, planned)
    names = ("outcome", "reward", "decision_position", "likeliest", "argmax_outcome")
    assert [tuple(row[name] for name in names) for row in rows[:4]] == [
        ("wrong", 1.0, 0, "B", "correct"),
        ("correct", 1.0, 1, "B", None),
        ("wrong", 0.0, 0, "B", None),
        ("wrong", 0.0, None, None, None),
    ]
    assert rows[0]["advantage"] == rows[1]["advantage"] == -rows[3]["advantage"] > 0.8
    assert rows[2]["advantage"] == 0, "there is no other token"
    assert {name: kind for name, kind in ROLLOUT_COLUMNS.items() if name in names[2:]} == {
        "decision_position": "int64", "likeliest": "string", "argmax_outcome": "string"
    }  # fmt: skip


@pytest.mark.parametrize(("asked", "hidden"), [(False, False), (True, False), (True, True)])
def test_tokens_are_scored_exactly_where_the_reference_was_asked(asked: bool, hidden: bool):
    """From log-probs there is no exact divergence (the learner would report 0): hidden states are asked for then."""
    questions: list[Any] = []

    def learner(held: HeldBatch) -> dict[str, Any]:
        return {"logprobs": 0, "entropy": 1, "rkl": 2 if held.hidden else 0}

    def reference(held: HeldBatch, hidden: bool) -> HeldBatch:
        questions.append((held.batch, held.rows, hidden))
        return replace(held, scores="hidden" if hidden else "logprobs")

    crew: Any = SimpleNamespace(
        learner=SimpleNamespace(log_probs=learner), reference=SimpleNamespace(streams=reference)
    )
    held = HeldBatch("batch", 3, torch.ones(8), (), (0,) * 8, 1, ("hidden" if hidden else "logprobs") if asked else "")
    found = token_scores(crew, held)
    assert found == ({"entropy": 1, "rkl": 2} if asked else {})
    assert questions == ([("batch", 8, True)] if asked and not hidden else [])
