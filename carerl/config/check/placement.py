"""Refuses settings that do not go with engines and ranks that share GPUs (``cluster.placement=colocated``)."""

from __future__ import annotations

from carerl.config.roles import colocated
from carerl.config.schema import RunConfig
from carerl.errors import ConfigError
from carerl.settings import Errors


def placement_pairings(c: RunConfig) -> Errors:
    """Yields an error where engines and ranks cannot be paired, and for state that would have to leave a GPU which
    nobody shares."""
    yield from _optimizer_offload(c)
    if not colocated(c):
        return
    ranks, actors, tensor_parallel = c.learner.ranks, c.rollout.actors, c.rollout.tensor_parallel
    if tensor_parallel > 1:
        reason = (
            "an engine over several GPUs would share them with several ranks, and of a bundle with several GPUs Ray "
            "hands out shares first fit: two ranks would meet on one GPU"
        )
        remedy = "write rollout.tensor_parallel=1, or cluster.placement=disaggregated"
        yield ConfigError("rollout.tensor_parallel", tensor_parallel, reason, remedy)
    elif ranks != actors:
        reason = f"rank k of the learner and engine k share a GPU, and there are {ranks} ranks and {actors} engines"
        yield ConfigError("rollout.actors", actors, reason, f"write rollout.actors={ranks}")
    rank, engine = c.learner.gpus_per_rank, c.rollout.gpus_per_actor
    if (rank > 0) != (engine > 0):
        reason = f"rank and engine share a GPU, and one of them has none (learner.gpus_per_rank={rank:g})"
        yield ConfigError("rollout.gpus_per_actor", engine, reason, "give both 0.5, or both 0")
    elif rank and abs(rank + engine - 1) > 1e-4:  # Ray counts to four digits
        reason = (
            f"rank and engine share one whole GPU, and with learner.gpus_per_rank={rank:g} they ask for "
            f"{rank + engine:g}: what is left of one could go to another actor, whose memory nobody plans"
        )
        remedy = "write learner.gpus_per_rank=0.5 rollout.gpus_per_actor=0.5"
        yield ConfigError("rollout.gpus_per_actor", engine, reason, remedy)


def _optimizer_offload(c: RunConfig) -> Errors:
    """Refuses to move an optimizer's state away from GPUs that nobody shares, or where the backend does not do it."""
    learner = c.learner
    if not learner.optimizer_offload or not c.trains_on_questions:
        return
    remedy = "leave learner.optimizer_offload out"
    if not colocated(c):
        reason = "it makes room for an engine on the same GPU, and no engine is there"
        remedy = f"write cluster.placement=colocated, or {remedy}"
    elif learner.gpus_per_rank == 0:
        reason = "without a GPU all of it is in host memory already"
    elif learner.cpu_offload:
        reason = "with learner.cpu_offload the optimizer's state is in host memory all the time"
    elif learner.backend != "fsdp2":
        reason = f"{learner.backend} keeps its optimizer where it is"
        remedy = f"write learner.backend=fsdp2, or learner.cpu_offload=true, or {remedy}"
    else:
        return
    yield ConfigError("learner.optimizer_offload", True, reason, remedy)
