"""The reference through its handles, on a real Ray: two ranks of the learner and two actors of the reference, or none.

Covered: both places give the same update and the same scores, also where a minibatch leaves a rank without rows; what
goes into the object store and to whom. That the gradients are right is ``tests/backends/learners/test_reference.py``'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import ray
import torch

from carerl.actors.cluster.cluster import cluster
from carerl.actors.crew import crew_of
from carerl.actors.handles.base import HeldBatch
from carerl.actors.handles.learner import Learner
from carerl.actors.handles.reference import Reference, ReferenceInLearner
from carerl.actors.health.asking import Asker
from carerl.actors.workers.learner import LearnerWorker
from carerl.actors.workers.reference import ReferenceWorker
from carerl.algorithms import ALGORITHMS
from carerl.backends.initial import init_tiny
from carerl.backends.models import make_model, save_model
from carerl.config.load import load
from carerl.config.schema import RunConfig, ShapeConfig
from carerl.loss.batching import Minibatch, make_batch, normalisers
from carerl.loss.objective import Strengths
from carerl.loss.streams import ReferenceShare
from carerl.tasks.tiny.tokenizer import EOS, make_tokenizer
from carerl.types import Example, Group, Sample, TokenBatch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LENGTHS = ((7, 1), (3, 12), (0, 5), (2, 9), (6, 6), (11, 4))
CUT = ((4,), (0, 1, 2, 3, 5, 6, 7), (8, 9, 10, 11), (0, 1, 8, 9, 10, 11))  # the first leaves a rank without rows
D = ShapeConfig().hidden_size


class Noting(LearnerWorker):
    """Notes the shares that it is given, as (rows, bytes)."""

    noted: tuple[tuple[tuple[int, ...], int], ...] = ()

    def _note(self, arguments: tuple[Any, ...]) -> None:
        shares = [one for one in arguments if isinstance(one, ReferenceShare)]
        values = [(one.rows, one.hidden_ND if one.logprobs_N is None else one.logprobs_N) for one in shares]
        self.noted = tuple((rows, value.untyped_storage().nbytes()) for rows, value in values if value is not None)

    def update(self, *arguments: Any) -> dict[str, float]:
        self._note(arguments)
        return super().update(*arguments)

    def log_probs(self, *arguments: Any) -> Any:
        self._note(arguments)
        return super().log_probs(*arguments)

    def last(self) -> list[tuple[tuple[int, ...], int]]:
        return list(self.noted)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> str:
    generator = torch.Generator().manual_seed(1)
    model = make_model(ShapeConfig(), (EOS,), lambda made: init_tiny(made, generator))
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(4)
    directory = tmp_path_factory.mktemp("model")
    save_model(directory, model.config, {n: p.detach() for n, p in model.named_parameters()}, make_tokenizer())
    return str(directory)


def config(place: str, estimator: str) -> RunConfig:
    words = ["learner.micro_batch_rows=2", "learner.threads=1", "learner.compute_dtype=float64"]
    words += ["reference.micro_batch_tokens=40", "reference.threads=1", "reference.compute_dtype=float64"]
    words += ["learner.optimizer.eps=1.0"]  # so that a step is as long as the gradient
    return load(["recipe=care_grpo_tiny", *words, f"reference.place={place}", f"regularizer.estimator={estimator}"])


def batch() -> tuple[TokenBatch, list[Minibatch]]:
    generator = torch.Generator().manual_seed(5)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(torch.randint(2, 60, (n,), generator=generator).tolist())

    groups = [
        Group(
            Example(f"e{g}", ids(2 + 2 * g), ""),
            [Sample("e", ids(n), (-4.0,) * n, False, (0, 0), reward=float(g + k == 3)) for k, n in enumerate(pair)],
        )
        for g, pair in enumerate(LENGTHS)
    ]
    algorithm = ALGORITHMS["grpo"].build(ALGORITHMS["grpo"].config())
    made = make_batch(groups, algorithm, 0.8)
    return made, [Minibatch(part, normalisers(made.select(part), algorithm)) for part in CUT]


class Runs:
    """Two ranks, two reference actors, and what they find; the processes serve every case."""

    def __init__(self, model_dir: str) -> None:
        self._model_dir = model_dir
        self._ranks = [ray.remote(num_cpus=0.1)(Noting).remote() for _ in range(2)]
        self._scorers = [ray.remote(num_cpus=0.1)(ReferenceWorker).remote() for _ in range(2)]
        self._learner = Learner(self._ranks, 0.0, Asker())
        self.found = {(p, e): self._run(p, e) for p in ("actors", "learner") for e in ("score", "full")}

    def _run(self, place: str, estimator: str) -> dict[str, Any]:
        settings = config(place, estimator)
        self._learner.begin(settings, self._model_dir)
        reference: Reference | ReferenceInLearner = ReferenceInLearner()
        if place == "actors":
            reference = Reference(self._scorers, Asker())
            ray.get(reference.load(settings, self._model_dir))
        reference.lend_head(self._learner)
        rows, minibatches = batch()
        held = reference.streams(self._learner.hold(rows, minibatches), estimator == "full")
        metrics = self._learner.update(held, 0.1, Strengths(3.0))
        given = ray.get([rank.last.remote() for rank in self._ranks])
        exactly = reference.streams(self._learner.hold(rows), True)  # as in an evaluation: no minibatches
        scores = self._learner.log_probs(exactly)
        return {"metrics": metrics, "scores": scores, "held": held, "given": given, "exactly": exactly}


@pytest.fixture(scope="module")
def runs(model_dir: str) -> Iterator[dict[tuple[str, str], dict[str, Any]]]:
    with cluster(object_store_mib=128):
        yield Runs(model_dir).found


@pytest.mark.parametrize("estimator", ["score", "full"])
def test_both_places_give_the_same_update_and_the_same_scores(runs: Any, estimator: str) -> None:
    """Three of the minibatches are off-policy, one is a second epoch, and one leaves a rank without rows."""
    apart, within = runs["actors", estimator], runs["learner", estimator]
    assert apart["metrics"] == pytest.approx(within["metrics"], rel=1e-6)
    assert apart["metrics"]["regularizer/loss"] != 0 and apart["metrics"]["regularizer/reverse_kl"] > 1e-5
    for name, stream_BT in apart["scores"].items():
        torch.testing.assert_close(within["scores"][name], stream_BT, rtol=1e-6, atol=1e-6)
    assert float(apart["scores"]["rkl"].sum()) > 0.01, "the policy has moved, so the test can fail"


def values(held: HeldBatch) -> list[list[ReferenceShare]]:
    return [ray.get(list(own)) for own in held.streams]


@pytest.mark.parametrize("estimator", ["score", "full"])
def test_a_rank_is_sent_its_own_rows_and_no_others(runs: Any, estimator: str) -> None:
    run, (rows, _) = runs["actors", estimator], batch()
    size = 8 * (D if estimator == "full" else 1)
    for rank, (shares, given) in enumerate(zip(values(run["held"]), run["given"], strict=True)):
        own = [row for row, owner in enumerate(run["held"].owners) if owner == rank]
        assert own and sorted(row for share in shares for row in share.rows) == own
        assert given == [(share.rows, size * int(rows.response_lengths_B[list(share.rows)].sum())) for share in shares]
        assert all((share.hidden_ND is None) == (estimator == "score") for share in shares)
    sent = sum(number for given in run["given"] for _, number in given)
    assert sent == size * rows.response_tokens, "once, and to one rank"


def test_actors_share_the_rows_by_tokens(runs: Any) -> None:
    held = runs["actors", "full"]["held"]
    by_actor = zip(*values(held), strict=True)
    tokens = [sum(int(held.lengths_B[list(share.rows)].sum()) for share in shares) for shares in by_actor]
    assert max(tokens) - min(tokens) <= int(held.lengths_B.max()) // 2


@pytest.mark.parametrize("estimator", ["score", "full"])
def test_with_the_reference_on_the_ranks_nothing_of_it_is_in_the_store(runs: Any, estimator: str) -> None:
    run = runs["learner", estimator]
    for held in (run["held"], run["exactly"]):
        assert held.asked and held.streams == ()
    assert run["given"] == [[], []], "the ranks get the batch and nothing else"


def test_a_run_with_the_reference_on_the_ranks_starts_no_actor_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from carerl.actors.crew import LearnerCrew, TrainingCrew
    from carerl.config.roles import actor_groups

    monkeypatch.setattr("carerl.actors.crew.Learner", lambda actors, gpus, ask: Learner.__new__(Learner))
    settings = config("learner", "full")
    roles = [group.role for group in actor_groups(settings)]
    assert roles == ["learner", "rollout", "grading"]
    made: Any = crew_of({role: [object()] for role in roles}, settings, Asker())
    assert type(made) is TrainingCrew and type(made.reference) is ReferenceInLearner
    corpus = load(["recipe=base_tiny", "reference.place=learner"])
    assert type(crew_of({"learner": [object()]}, corpus, Asker())) is LearnerCrew, "a run without a reference"


def test_what_a_crew_of_both_places_has_is_the_same() -> None:
    """A loop does not know where the reference is."""
    public = [{name for name in vars(kind) if not name.startswith("_")} for kind in (Reference, ReferenceInLearner)]
    assert public[0] == public[1] == {"lend_head", "streams"}
