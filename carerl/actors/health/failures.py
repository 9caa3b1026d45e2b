"""Turns Ray's exceptions into errors that name the actor, its place, what it was asked for, the cause and the remedy.

This is done nowhere else. What Ray's exceptions say at length goes to the error log.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    ObjectLostError,
    ObjectStoreFullError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

from carerl.config.plan.advice import NO_ADVICE, Advice
from carerl.types import RunError


@dataclass(frozen=True)
class Where:
    """Names an actor and what it was asked for, as messages do. ``seconds``: how long it was waited for. ``advice``:
    what to change in this run if its memory runs out."""

    actor: str  # role and number: "learner 1"
    pid: int = 0
    node: str = ""  # the node's address
    phase: str = ""
    seconds: float = 0.0
    advice: Advice = NO_ADVICE

    @property
    def role(self) -> str:
        return self.actor.split(" ")[0]

    def __str__(self) -> str:
        place = ", ".join([*([f"pid {self.pid}"] if self.pid else []), *([f"node {self.node}"] if self.node else [])])
        doing = f' in "{self.phase}", after {self.seconds:.0f} s' if self.phase else ""
        return f"{self.actor}{f' ({place})' if place else ''}{doing}"


class ActorFailed(RunError):
    """Says that an actor did not do what it was asked for. ``str()`` is the whole message."""

    what = "failed"

    def __init__(self, where: Where, cause: str, remedy: str, details: str = "") -> None:
        super().__init__(where, cause, remedy, details)
        self.where, self.cause, self.remedy = where, cause, remedy
        self.details = details  # for the error log
        self.log = ""  # the file that has the details, once they are written

    def __str__(self) -> str:
        log = f"\n  log: {self.log}" if self.log else ""
        return f"{self.where}: {self.what}\n  cause: {self.cause}\n  remedy: {self.remedy}{log}"


class ActorDied(ActorFailed):
    """Says that an actor's process, or its node, is gone."""

    what = "its process has died"


class ActorOutOfMemory(ActorFailed):
    """Says that an actor needed more memory than there was, of the host or of its GPU."""

    what = "out of memory"


class ActorStuck(ActorFailed):
    """Says that an actor is there, and does nothing."""

    what = "it is stuck"


class ActorRaised(ActorFailed):
    """Says that an actor raised an error: it refused, or could not do, what it was asked for."""

    what = "it raised an error"


RESUME = "resume from the newest checkpoint (resume=DIR)"
LOWER = {
    "learner": "lower learner.micro_batch_rows, then learner.head_chunk_tokens; learner.gradient_checkpointing=true "
    "trades memory for time, and a larger learner.ranks shares weights and optimizer out",
    "reference": "lower reference.micro_batch_tokens, then learner.head_chunk_tokens, which the reference uses too",
    "rollout": "lower rollout.max_batch_rows or rollout.max_model_len; the engine's share of memory is "
    "rollout.gpu_memory_utilization on a GPU (lower it if others use the same GPU), rollout.kv_cache_gib on the CPU",
    "judge": "lower judge.max_batch_rows, judge.max_model_len or judge.gpu_memory_utilization, or give each actor more "
    "GPUs (judge.tensor_parallel)",
    "grading": "lower grading.processes or grading.memory_mib",
}
_MEMORY_NAMES = ("MemoryError", "OutOfMemoryError")
_CARD_WORDS = (
    "cuda out of memory",
    "cuda error: out of memory",
    "cublas_status_alloc_failed",
    "no available memory for the cache blocks",  # vLLM
    "free memory on device",  # vLLM as it starts
)
_MEMORY_WORDS = (
    *_CARD_WORDS,
    "cannot allocate memory",
    "can't allocate memory",  # torch on the CPU
)
_MONITOR = "Ray's memory monitor killed it: its node's memory was nearly full"
_MONITOR_WORDS = ("node_out_of_memory", "running low on memory", "memory monitor", "memory usage threshold")
_PEER_WORDS = ("connection closed by peer", "connection reset by peer", "timed out waiting", "socket timeout", "gloo")
_NODE_WORDS = ("node has died", "node was terminated", "node is dead", "its node", "the node")
_FULL_DISK = "no space left on device"
# Remedies for errors that carry none, by the name of their class.
_REMEDIES = {
    "StaleWeights": f"the engine lost its weights on the way: {RESUME}",
    "IncompleteWeights": "the model's files and the learner do not have the same tensors: check model.path",
    "DamagedWeights": f"bytes changed on their way (a network, a link, memory): {RESUME}, and suspect that node",
    "RequestsInFlight": f"the engine was left in the middle of something: {RESUME}",
}


class OfAnother(RuntimeError):
    """Is raised by an actor that called another which raised ``cause``: Ray alone would name the one that called.
    ``actor_id``: Ray's id of the other, in hex. ``details``: its traceback."""

    def __init__(self, cause: BaseException, actor_id: str, details: str) -> None:
        super().__init__(cause, actor_id, details)
        self.cause, self.actor_id, self.details = cause, actor_id, details

    def __str__(self) -> str:
        return self.details


def origin(error: BaseException) -> BaseException:
    """Returns the error of the actor in which it began, where one actor called another."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, OfAnother | RayActorError):
        return error.cause
    return error


def failure_of(error: BaseException, where: Where, oom_kills: int = 0) -> ActorFailed:
    """Returns what Ray raised for a call, as an error in words. ``oom_kills``: how many processes of the driver's node
    the kernel has killed for lack of memory since the actors were started."""
    details = str(error)
    error = origin(error)
    if isinstance(error, RayTaskError | OfAnother):
        return _raised(error, where)
    if isinstance(error, OutOfMemoryError):
        return ActorOutOfMemory(where, _MONITOR, _lower(where), details)
    if isinstance(error, ActorUnavailableError):
        cause = "its node cannot be reached: the connection to it broke"
        return ActorDied(where, cause, f"look at the node and the network; {RESUME}", details)
    if isinstance(error, RayActorError | WorkerCrashedError):
        return _died(error, where, oom_kills)
    if isinstance(error, ObjectStoreFullError):
        cause = "Ray's object store is full"
        remedy = "give /dev/shm or the head's --object-store-memory more room, or lower sync.bucket_mib"
        return ActorOutOfMemory(where, cause, remedy, details)
    if isinstance(error, ObjectLostError):
        cause = "the process or node that held its result is gone"
        return ActorDied(where, cause, f"look at the nodes; {RESUME}", details)
    return ActorFailed(where, f"Ray says: {_last_line(details) or type(error).__name__}", RESUME, details)


def _died(error: BaseException, where: Where, oom_kills: int) -> ActorFailed:
    """Returns why an actor's process is gone."""
    details, text = str(error), str(error).lower()
    if isinstance(error, ActorDiedError) and error.actor_init_failed:
        return ActorRaised(where, f"it could not start: {_last_line(details)}", "the log says where", details)
    if any(words in text for words in _MONITOR_WORDS):
        return ActorOutOfMemory(where, _MONITOR, _lower(where), details)
    if oom_kills:
        cause = "the kernel killed it: the node had no memory left, or the container was at its limit"
        return ActorOutOfMemory(where, cause, _lower(where), details)
    if getattr(error, "preempted", False):
        return ActorDied(where, "its node was taken away", RESUME, details)
    if any(words in text for words in _NODE_WORDS):
        return ActorDied(where, "its node has died or cannot be reached", f"look at the node; {RESUME}", details)
    if "connection error code" in text or "end of file" in text or "sigkill" in text:
        cause = "something killed it from outside (SIGKILL), or it crashed"
        remedy = f"{RESUME}. If its node's `dmesg` shows an OOM kill: {_lower(where)}"
        return ActorDied(where, cause, remedy, details)
    return ActorDied(where, _last_line(details), RESUME, details)


def _raised(error: RayTaskError | OfAnother, where: Where) -> ActorFailed:
    """Returns what an actor's own code raised."""
    cause = error.cause if isinstance(error.cause, BaseException) else error
    details, text = str(error), str(cause)
    name = type(cause).__name__
    said = " ".join(text.split()) or name
    if isinstance(cause, RayActorError):  # another actor died, whose result this one was given
        return _died(cause, where, 0)
    if name in _MEMORY_NAMES or any(words in text.lower() for words in _MEMORY_WORDS):
        on_card = any(words in text.lower() for words in _CARD_WORDS)
        return ActorOutOfMemory(where, f"{name}: {_cut(said)}", _lower(where, on_card), details)
    if isinstance(cause, RunError):  # its message says everything
        return ActorRaised(where, said, RESUME, details)
    if _FULL_DISK in text.lower():
        return ActorRaised(where, f"{name}: {_cut(said)}", f"make room on that disk; then {RESUME}", details)
    if where.role == "learner" and any(words in text.lower() for words in _PEER_WORDS):
        cause_ = f"another rank is gone or stuck ({_cut(said)})"
        return ActorRaised(where, cause_, f"look at the other ranks' nodes; {RESUME}", details)
    remedy = _REMEDIES.get(name, f"the log has its traceback; {RESUME} once the cause is mended")
    return ActorRaised(where, f"{name}: {_cut(said)}", remedy, details)


def weight(failure: ActorFailed) -> int:
    """Returns how likely a failure is the cause of others of the same call: the heaviest one counts as the cause."""
    order = (ActorOutOfMemory, ActorDied, ActorStuck, ActorRaised)
    return next((len(order) - k for k, kind in enumerate(order) if isinstance(failure, kind)), 0)


def _lower(where: Where, on_card: bool = False) -> str:
    """Returns what to lower where memory runs out: what is largest in this run's plan first, then what always helps.
    ``on_card``: the memory is a GPU's."""
    always = LOWER.get(where.role, "run with fewer or smaller actors")
    first = where.advice.card if on_card else where.advice.host
    return f"{first}. Also possible: {always}" if first else always


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return _cut(lines[-1]) if lines else ""


def _cut(text: str, limit: int = 300) -> str:
    return text if len(text) <= limit else text[:limit] + " …"
