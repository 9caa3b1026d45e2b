"""Reservations on a real Ray of two CPUs and three GPUs, which it is only told of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import ray

from carerl.actors.cluster import placement
from carerl.actors.cluster.placement import NotPlaced, reserved
from carerl.config.load import load
from carerl.config.roles import ActorGroup, actor_groups
from carerl.controller.ending.stopping import Interrupted, StopFlag

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module", autouse=True)
def two_cpus() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, num_gpus=3, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def group(count: int, cpus: float, role: str = "rollout") -> ActorGroup:
    return ActorGroup(role, count, cpus, 0.0, f"{role}.cpus_per_actor")


def nothing(text: str = "") -> None:
    pass


def free() -> float:
    return round(ray.available_resources().get("CPU", 0.0), 6)


@pytest.mark.slow
def test_a_run_waits_for_one_that_holds_what_it_needs_and_holds_nothing_meanwhile() -> None:
    """Actors of .5 CPU: three of them are held, so one of the second run's two would fit, and none is taken."""
    seen: list[float] = []
    with ExitStack() as first:
        first.enter_context(reserved([group(3, 0.5)], 0, nothing, nothing))
        _until_free(0.5)

        def check() -> None:
            """Once nothing is held, Ray may take up to a second to come back to what waits: then it is called again."""
            if len(seen) < 2:
                seen.append(free())
                if len(seen) == 2:
                    first.close()

        with reserved([group(1, 0.5), group(1, 0.5, "learner")], 0, nothing, check) as room:
            assert {role: len(options) for role, options in room.options.items()} == {"rollout": 1, "learner": 1}
            _until_free(1.0)
    assert seen == [0.5, 0.5]
    _until_free(2.0)


def test_actors_lie_on_what_is_reserved_for_them() -> None:
    @ray.remote
    class Actor:
        def place(self) -> str | None:
            return ray.get_runtime_context().get_placement_group_id()

    with reserved([group(2, 0.3), group(1, 0), group(1, 0.4, "learner")], 0, nothing, nothing) as room:
        actors = {
            role: [Actor.options(**options).remote() for options in found] for role, found in room.options.items()
        }
        assert room.nodes == {ray.get_runtime_context().get_node_id()}
        found = {role: ray.get([actor.place.remote() for actor in group]) for role, group in actors.items()}
        assert len({*found["rollout"][:2], *found["learner"]}) == 1 and found["learner"][0] is not None
        assert found["rollout"][2] is None, "an actor that asks for nothing has no place"
        _until_free(1.0)  # nothing is taken beside the reservation


@pytest.mark.parametrize("gpus", [pytest.param(0.0, marks=pytest.mark.slow), 0.5])
def test_rank_k_and_engine_k_share_bundle_k_and_its_gpu(gpus: float) -> None:
    """Each pair has a bundle that nobody else uses: the reference, whose share would fit beside a rank, has its own.
    Without GPUs the CPUs of a pair are one bundle in the same way."""
    groups = [
        ActorGroup("learner", 2, 0.3, gpus, "learner.cpus_per_rank"),
        ActorGroup("rollout", 2, 0.2, gpus, "rollout.cpus_per_actor", shares_with="learner"),
        ActorGroup("reference", 1, 0.2, gpus, "reference.cpus_per_actor"),
    ]

    @ray.remote
    class Actor:
        def gpus(self) -> list[int]:
            return list(ray.get_gpu_ids())

    with reserved(groups, 0, nothing, nothing) as room:
        bundles = {
            role: [options["scheduling_strategy"].placement_group_bundle_index for options in found]
            for role, found in room.options.items()
        }
        assert bundles["learner"] == bundles["rollout"] and list(bundles) == ["learner", "rollout", "reference"]
        assert sorted([*bundles["learner"], *bundles["reference"]]) == [0, 1, 2]
        _until_free(0.8)  # two pairs of .5 and the reference's .2
        actors = {
            role: [Actor.options(**options).remote() for options in found] for role, found in room.options.items()
        }
        cards = {role: ray.get([actor.gpus.remote() for actor in found]) for role, found in actors.items()}
        assert cards["learner"] == cards["rollout"], "engine k sees the GPU of rank k, and no other"
        held = [card for role in ("learner", "reference") for found in cards[role] for card in found]
        assert len(set(held)) == len(held) == (3 if gpus else 0)
    _until_free(2.0)


def test_the_learners_ranks_are_kept_together_whatever_order_ray_packs_in() -> None:
    """care_dapo_7b: learner and rollout actors ask for the same, 4 CPUs and a GPU; Ray's sort is not stable, and this
    is an order that it can come to."""
    groups = actor_groups(load(["recipe=care_dapo_7b", "dry_run=true"]))
    roles = [g.role for g in groups if g.gpus_each for _ in range(g.count)]
    bundles = [placement._bundle(g) for g in groups if g.gpus_each for _ in range(g.count)]
    packed = [roles.index("learner"), *(i for i, role in enumerate(roles) if role == "rollout")]
    packed += [i for i in range(len(roles)) if i not in packed]
    nodes = [f"node{packed.index(i) // 8}" for i in range(len(roles))]
    assert len({nodes[i] for i, role in enumerate(roles) if role == "learner"}) == 2, "as Ray has put them"
    used = placement.by_node(bundles, nodes)
    assert sorted(used) == list(range(len(roles))) and all(bundles[i] == bundles[u] for i, u in enumerate(used))
    assert len({nodes[u] for u, role in zip(used, roles, strict=True) if role == "learner"}) == 1


def test_what_never_comes_is_given_up_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "FREE_TIMEOUT_S", 0.0)
    monkeypatch.setattr(placement, "TELL_EVERY_S", 1.0)
    said: list[str] = []
    with pytest.raises(NotPlaced) as caught, reserved([group(3, 1.0)], 3.0, said.append, nothing):
        pass
    assert str(caught.value).startswith(
        "after 3 s the cluster has not handed out 3 CPUs. 1 nodes have 2 CPUs, free are"
    )
    assert said and said[0].startswith("waiting for 3 CPUs; 1 nodes have 2 CPUs, free are 2 CPUs (")
    _until_free(2.0)


def test_a_stop_ends_the_wait() -> None:
    stop = StopFlag()
    with pytest.raises(Interrupted, match="nothing to save") as caught:

        def check() -> None:
            stop.signal = stop._signals[1]
            stop.check()

        with reserved([group(3, 1.0)], 0, nothing, check):
            pass
    assert caught.value.exit_code == 143
    _until_free(2.0)


def test_a_plan_of_nothing_but_idle_shares() -> None:
    with reserved([group(1, 0)], 0, nothing, nothing) as room:
        assert room.options == {"rollout": [{"num_cpus": 0, "num_gpus": 0}]} and not room.nodes


def test_every_recipe_of_one_machine_fits_its_reservation() -> None:
    for recipe in ("care_grpo_tiny", "base_tiny"):
        groups = actor_groups(load([f"recipe={recipe}"]))
        with reserved(groups, 0, nothing, nothing) as room:
            assert {g.role: g.count for g in groups} == {role: len(found) for role, found in room.options.items()}
    _until_free(2.0)


def _until_free(cpus: float) -> None:
    """Waits until so many CPUs are free: what Ray says of them is a moment old, at a reservation's start and end."""
    for _ in range(300):
        if free() == cpus:
            return
        ray.get(ray.remote(num_cpus=0)(nothing).remote())  # a round trip through the scheduler
    raise AssertionError(f"free are {free()} CPUs, not {cpus}")
