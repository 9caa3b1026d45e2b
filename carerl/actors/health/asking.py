"""The one way to wait for an actor: :meth:`Asker.__call__`, ``ask(refs, phase, seconds)``.

It waits in slices of a second. A call that takes longer than a few of them is watched: its actor is asked for a sign
of life, which a thread of its own gives while the work goes on (:meth:`carerl.actors.workers.base.Worker.pulse`), and
which says how far the work has come. Two limits follow, and none on how long a call may take as a whole, since a slow
engine that makes progress is a good engine:

``cluster.answer_seconds``     without a sign of life: the process is stopped, its node is gone, or the network is
``cluster.progress_minutes``   alive, and without progress: it hangs, in a collective or a GPU's kernel

What loads, saves or starts reports no progress on its way, and may take four times the second; a process that imports
libraries or builds a model may be mute for five times the first. Once a stop was asked for (SIGTERM, Ctrl-C, a node
that is drained) a call may still end, so that the step is saved, but both limits are a quarter of what they were; and
what has nothing to save, as loading before the first step, is left at once.

What fails becomes an :class:`~carerl.actors.health.failures.ActorFailed`, with Ray's own words in the error log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayError

from carerl.actors.health.error_log import ErrorLog
from carerl.actors.health.failures import GO_ON, ActorFailed, ActorStuck, Where, failure_of, weight
from carerl.config.schema import ClusterConfig
from carerl.progress import Pulse

RAY_ERRORS = RayError  # for those who may not import Ray
SLICE_S = 1.0
WATCH = "watch"  # the concurrency group of the thread that gives signs of life
CAUSES_S = 5.0  # for which, once a call has failed, the other actors' failures are waited for: one may be the cause
WITHOUT_PROGRESS = frozenset({"load", "restore", "save", "export"})  # phases that report none, and may take longer
MUTE = frozenset({"start", "load"})  # phases in which imports and C code may hold Python for long
UNSAVED = frozenset({"start", "load"})  # phases that a stop ends at once: there is nothing to save yet
SLOWER, MUTER, STOPPING = 4.0, 5.0, 0.25


@dataclass
class Member:
    """An actor that is waited for, under its role and number."""

    name: str
    handle: Any
    pid: int = 0
    node: str = ""


@dataclass
class _Watched:
    """What is known of one actor while a call to it is under way. Times are those of ``time.monotonic``."""

    member: Member
    moved: float
    steps: int = -1
    stack: str = ""
    pulse: Any = None  # that is waited for
    asked: float = 0.0


@dataclass
class Asker:
    """Waits for the actors that were enlisted. ``stopped``: the exit code of a stop that was asked for, 0 without one;
    ``check`` raises where there is one; ``lost`` says, in words, that the cluster's head is gone, '' while it is there.
    Without members it waits for as long as it takes."""

    settings: ClusterConfig = field(default_factory=ClusterConfig)
    stopped: Callable[[], int] = lambda: 0
    check: Callable[[], None] = lambda: None
    lost: Callable[[], str] = lambda: ""
    oom_kills: Callable[[], int] = lambda: 0
    node: str = ""  # of this process, whose count of OOM kills it is
    log: ErrorLog = field(default_factory=ErrorLog)
    members: dict[str, Member] = field(default_factory=dict)  # by Ray's id of the actor

    def enlist(self, name: str, handle: Any, pid: int = 0, node: str = "") -> None:
        self.members[handle._actor_id.hex()] = Member(name, handle, pid, node)

    def __call__(self, refs: Any, phase: str, seconds: float | None = None) -> Any:
        """The values of references, a list of them or a single one. ``phase``: what is being done, as messages name it;
        ``seconds``: without progress, in place of the phase's own limit. Raises ActorFailed."""
        if not isinstance(refs, list):
            return self([refs], phase, seconds)[0]
        return self._wait(refs, phase, seconds, fetch=True)

    @contextmanager
    def in_words(self) -> Iterator[None]:
        """Raises what Ray raises inside as ActorFailed."""
        try:
            yield
        except RAY_ERRORS as error:
            raise self.translated(error) from error

    def wait(self, refs: Sequence[Any], phase: str, seconds: float | None = None) -> None:
        """Until all values exist, without bringing them here. What failed is told by whoever takes the values."""
        self._wait(list(refs), phase, seconds, fetch=False)

    def some(self, refs: list[Any], phase: str) -> tuple[dict[Any, Any], list[Any]]:
        """The values that exist within a slice, by their references, and the references of the others."""
        done, pending = ray.wait(refs, num_returns=len(refs), timeout=SLICE_S)
        try:
            return dict(zip(done, ray.get(done), strict=True)), pending
        except RayError as error:
            raise self._told(self._failure(error, done, [], phase, 0.0)) from error

    def put(self, value: Any) -> Any:
        """A reference to a value in the object store. Raises ActorFailed where that is full."""
        try:
            return ray.put(value)
        except RayError as error:
            raise self.translated(error) from error

    def _wait(self, refs: list[Any], phase: str, seconds: float | None, fetch: bool) -> list[Any]:
        begin = time.monotonic()
        pending = list(dict.fromkeys(refs))
        values: dict[Any, Any] = {}
        watched: dict[str, _Watched] = {}
        done: list[Any] = []
        try:
            while pending:
                done, pending = ray.wait(pending, num_returns=len(pending), timeout=SLICE_S, fetch_local=fetch)
                if fetch and done:
                    values |= dict(zip(done, ray.get(done), strict=True))
                if pending:
                    self._look(pending, watched, phase, begin, seconds)
        except RayError as error:
            raise self._told(self._failure(error, done, pending, phase, time.monotonic() - begin)) from error
        return [values[ref] for ref in refs] if fetch else []

    # ---- what is wrong ------------------------------------------------------------------------------

    def where(self, ref: Any, phase: str, seconds: float) -> Where:
        member = self.members.get(_actor_of(ref))
        name = member.name if member else "an actor"
        return Where(name, member.pid if member else 0, member.node if member else "", phase, seconds)

    def _failure(self, error: RayError, done: list[Any], pending: list[Any], phase: str, seconds: float) -> ActorFailed:
        """Of the failures that came of one cause, the cause."""
        late: list[Any] = []
        if pending:
            late, _ = ray.wait(pending, num_returns=len(pending), timeout=CAUSES_S, fetch_local=False)
        found = []
        for ref in [*done, *late]:
            try:
                ray.get(ref, timeout=SLICE_S)
            except GetTimeoutError:
                continue
            except RayError as own:
                found.append(self._of(own, ref, phase, seconds))
        return max(found or [self._of(error, None, phase, seconds)], key=weight)

    def _of(self, error: RayError, ref: Any, phase: str, seconds: float) -> ActorFailed:
        where = self._place(error, ref, phase, seconds)
        return failure_of(error, where, self.oom_kills() if where.node in ("", self.node) else 0)

    def _place(self, error: RayError, ref: Any, phase: str, seconds: float) -> Where:
        """Of an actor's death Ray says whose it was, which need not be the one that was asked."""
        where = self.where(ref, phase, seconds)
        member = self.members.get(str(getattr(error, "actor_id", None)))
        pid = getattr(error, "pid", None)
        member = member or next((m for m in self.members.values() if pid and m.pid == pid), None)
        return replace(where, actor=member.name, pid=member.pid, node=member.node) if member else where

    def _told(self, failure: ActorFailed) -> ActorFailed:
        """The failure with its details in the log, and with the exit code of the stop that it came after."""
        failure.log = self.log.write(str(failure.where), failure.details)
        if code := self.stopped():
            failure.exit_code = code
        return failure

    def translated(self, error: RayError) -> ActorFailed:
        """Of what Ray raised outside of a call, as for a cluster that is gone."""
        return self._told(failure_of(error, Where("the Ray cluster")))

    # ---- signs of life ------------------------------------------------------------------------------

    def _look(
        self, pending: list[Any], watched: dict[str, _Watched], phase: str, begin: float, seconds: float | None
    ) -> None:
        """Looks after what has not ended within a slice. Raises what ends the call."""
        if phase in UNSAVED:
            self.check()
        if gone := self.lost():
            where = Where("the head of the Ray cluster", phase=phase, seconds=time.monotonic() - begin)
            raise self._told(HeadGone(where, gone, f"start the cluster again; then {GO_ON}"))
        answer, progress = self.limits(phase, seconds)
        now = time.monotonic()
        if now - begin < min(5.0, answer / 4):
            return
        working = {_actor_of(ref) for ref in pending} & set(self.members)  # those that have ended need show nothing
        for actor in working:
            one = watched.setdefault(actor, _Watched(self.members[actor], begin))
            self._listen(one, now, answer)
        for one in (watched[actor] for actor in working):
            if one.pulse is not None and now - one.asked > answer:
                raise self._told(_mute(one, phase, now - begin, now - one.asked, self.stopped()))
            if now - one.moved > progress:
                raise self._told(_still(one, phase, now - begin, now - one.moved, self.stopped()))

    def limits(self, phase: str, seconds: float | None = None) -> tuple[float, float]:
        """Seconds without a sign of life, and without progress, that a call in this phase may take."""
        answer = self.settings.answer_seconds * (MUTER if phase in MUTE else 1.0)
        progress = self.settings.progress_minutes * 60 * (SLOWER if phase in WITHOUT_PROGRESS else 1.0)
        part = STOPPING if self.stopped() else 1.0
        return answer * part, (progress if seconds is None else seconds) * part

    def _listen(self, one: _Watched, now: float, answer: float) -> None:
        """Takes the sign of life that has come, and asks for the next. Raises RayError for an actor that has died."""
        if one.pulse is not None:
            done, _ = ray.wait([one.pulse], timeout=0)
            if not done:
                return
            try:
                pulse: Pulse = ray.get(one.pulse)
            except ActorUnavailableError:  # a connection that breaks may come back, within the same limit
                one.pulse = self._pulse(one)
                return
            one.pulse = None
            if pulse.steps != one.steps:
                one.steps, one.moved = pulse.steps, now
            one.stack = pulse.stack
        if now - one.asked >= min(10.0, answer / 4):
            one.pulse, one.asked = self._pulse(one), now

    def _pulse(self, one: _Watched) -> Any:
        return one.member.handle.pulse.options(concurrency_group=WATCH).remote()


class HeadGone(ActorFailed):
    """The cluster's head does not answer any more."""

    what = "it does not answer"


def _mute(one: _Watched, phase: str, seconds: float, mute: float, stopped: int) -> ActorStuck:
    cause = (
        f"its process has given no sign of life for {mute:.0f} s: it is stopped (SIGSTOP, a debugger), hangs "
        "in C code, or its node cannot be reached"
    )
    remedy = f"look at that process and node; {GO_ON}. {_longer('cluster.answer_seconds', stopped)}"
    return ActorStuck(_where(one, phase, seconds), cause, remedy, _stack(one))


def _still(one: _Watched, phase: str, seconds: float, still: float, stopped: int) -> ActorStuck:
    cause = f"its process is alive and has made no progress for {still:.0f} s; the log says where it is"
    remedy = f"{GO_ON}; where the same comes again, that place in the log is the fault. "
    remedy += _longer("cluster.progress_minutes", stopped)
    return ActorStuck(_where(one, phase, seconds), cause, remedy, _stack(one))


def _longer(setting: str, stopped: int) -> str:
    """Which setting gives more time."""
    return f"{setting} is how long it may{', and a quarter of it once a stop was asked for' if stopped else ''}"


def _where(one: _Watched, phase: str, seconds: float) -> Where:
    return Where(one.member.name, one.member.pid, one.member.node, phase, seconds)


def _stack(one: _Watched) -> str:
    return (
        f"where it was when it last gave a sign of life:\n{one.stack}" if one.stack else "it never gave a sign of life"
    )


def _actor_of(ref: Any) -> str:
    """Ray's id, in hex, of the actor that makes a value; '' of one that no actor makes."""
    try:
        return str(ref.task_id().actor_id().hex())
    except (AttributeError, RuntimeError):
        return ""
