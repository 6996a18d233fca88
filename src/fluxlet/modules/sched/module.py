"""The modules sched-simple, sched-fifo and sched-backfill: the planner, in conversation (spec 07, 3.1 to 3.7).

    resource.acquire -> the pool -> job-manager.sched-hello -> who holds what -> job-manager.sched-ready
    sched.alloc, sched.free, ... -> the planner -> (next turn) run -> kvs.commit of all Rs -> the answers

Rules:
- Requests only change what is to be planned. Planning is done when those are heard that have come in one turn of the
  loop, or when a lot has come together; what a run has started goes into one transaction.
- A job is told of its resources when its R is in the KVS; or the job manager, where it is at hand, sees to that. They
  are the job's own from the moment it was planned.
- A request that cannot be understood is denied; it is never the scheduler's end.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from json import dumps
from syslog import LOG_ERR
from time import monotonic, time
from typing import Any

import msgspec

from flux.brokermod import event_handler, request_handler
from flux.constants import FLUX_RPC_STREAMING
from flux.core import fluid
from flux.core.codec import dump_payload
from flux.core.future_state import RpcState
from flux.core.handle import Flux
from flux.message import Message
from flux.resource._pool import Grant, Pool, bits
from flux.resource.Rv1Set import Rv1Set
from fluxlet.broker.broker import Broker
from fluxlet.broker.host import Module
from fluxlet.modules.job_manager.direct import manager_of
from fluxlet.modules.job_manager.near import NearScheduler, as_if_asked
from fluxlet.modules.sched.hello import grants_of, hold, say_hello
from fluxlet.modules.sched.line import Called, Pending
from fluxlet.modules.sched.planner import BACKFILL, FIFO, Planner, Start
from fluxlet.modules.sched.requests import (
    AllocRequest,
    CancelRequest,
    Execution,
    ExpirationRequest,
    FeasibilityRequest,
    FreeRequest,
    HeldR,
    Options,
    PrioritizeRequest,
)
from fluxlet.modules.sched.shapes import Refused, Shapes
from fluxlet.modules.sched.status import Passes, resource_status
from fluxlet.modules.sched.texts import Texts, bits_of, commit, operation, success, summary
from fluxlet.payload import UNREADABLE, decode

#: So many changes are not kept waiting for the next turn of the loop.
_MANY = 128
#: Looking into the future may take this part of the time, and looking for jobs that may go ahead this.
_FORECAST_SHARE = 0.05
_BACKFILL_SHARE = 0.2
#: What telling a job of its future costs everybody, in seconds.
_ANNOTATION = 0.0003
#: How many pending jobs are told of their future.
_FORETOLD = 16
#: So long after the resources could not be acquired that is tried again, in seconds.
_RETRY = 0.5
#: Debug bits: deny the next request, explain what is pending, refuse other ends.
_DENY, _EXPLAIN, _REFUSE = 1, 2, 4

_held_r = msgspec.json.Decoder(HeldR).decode


class Scheduler(NearScheduler):
    """A scheduler; its subclasses say what its defaults are.

    Args:
        args: as of Options.

    Raises OSError(EINVAL) for other arguments, EEXIST if there is a scheduler already.
    """

    policy = FIFO
    #: How many jobs the job manager is to show us at a time; None: all.
    limit: int | None = 8
    #: Whether jobs that wait are told when they will start.
    forecasts = True

    def __init__(self, handle: Flux, broker: Broker, *args: str) -> None:
        self.options = Options(args, self.policy, self.limit)
        super().__init__(handle, broker, *args)
        self.log.level = self.options.log_level
        self.planner: Planner | None = None  # until the resources are known
        self.ready = False
        self._greetings = 0  # how often hello has been said to a job manager: answers to former ones are not for us
        self._resources = Rv1Set()
        self._shapes = Shapes(self._resources, Pool({}))
        self._texts = Texts(self._resources)
        reactor = handle.core.reactor
        self._soon = reactor.timer(0.0, 0.0, self._plan)
        self._later = reactor.timer(0.0, 0.0, self._forecast)
        self._again = reactor.timer(0.0, 0.0, self._plan)
        self._changes = 0
        self._retry = reactor.timer(0.0, 0.0, self._ask_resources)
        self._acquire_errno: int | None = 0
        self._forecast_due = self._backfill_due = 0.0
        self._passes = Passes()

    async def start_service(self) -> None:
        """Takes the service names, and asks for the resources."""
        for name in ("sched", "feasibility"):
            await self.handle.rpc("service.add", {"service": name})
        self._ask_resources()

    def stop_service(self) -> None:
        """Nothing is planned any more. The job manager hears that we are gone, and sends its requests to the next."""
        self._soon.stop()
        self._later.stop()
        self._again.stop()
        self._retry.stop()

    # The resources.

    def _ask_resources(self) -> None:
        self.handle.rpc("resource.acquire", flags=FLUX_RPC_STREAMING).then(self._acquired)

    def _acquired(self, future: Any) -> None:
        try:
            response = future.get()
        except OSError as exc:
            # The resource module has been removed, and will be back; until then its last word counts.
            if exc.errno != self._acquire_errno:
                self._acquire_errno = exc.errno
                self.log.warning(f"resource.acquire: {exc.strerror}: tried again until it succeeds")
            self._retry.reset(_RETRY, 0.0)
            self._retry.start()
            return
        future.reset()
        self._acquire_errno = 0
        before = self.planner
        if "resources" in response:
            self._begin(Rv1Set(response["resources"], keep_scheduling=True))
        planner = self.planner
        if planner is None:
            return
        pool = planner.pool
        if "up" in response:
            pool.up |= bits_of(response["up"]) & pool.ranks
        if "down" in response:
            pool.up &= ~bits_of(response["down"])
        if "shrink" in response:
            self._shrink(planner, bits_of(response["shrink"]))
        if "expiration" in response:
            planner.expiration = float(response["expiration"])
            self._resources.set_expiration(planner.expiration)
        planner.unsettle()
        if "resources" in response and before is not None:
            self._move(before, planner)
        elif "resources" in response:
            self._say_hello(planner)
            return
        self._plan_soon()

    def _begin(self, resources: Rv1Set) -> None:
        self._resources = resources
        nodes = {rank: (node.cores, node.gpus) for rank, node in resources.nodes.items()}
        pool = Pool(nodes, self.options.placement)
        self.planner = Planner(pool, self.options.policy, resources.get_expiration())
        self._shapes = Shapes(resources, pool)
        self._texts = Texts(resources)

    def _move(self, old: Planner, new: Planner) -> None:
        """The inventory is another one: jobs keep what they hold, and ask for what they want, of that."""
        for jobid, job in old.pool.jobs.items():
            hold(self, new.pool, jobid, job.grants, job.expiration)
        for pending in old.line:
            asked = pending.request
            assert asked is not None
            jobspec = asked.jobspec if isinstance(asked, Called) else bytes(decode(asked, AllocRequest).jobspec)
            self._enter(asked, pending.jobid, -pending.key[0], jobspec)

    def _shrink(self, planner: Planner, gone: int) -> None:
        planner.pool.remove_ranks(gone)
        self._resources.remove_ranks(list(bits(gone)))
        self._shapes = Shapes(self._resources, planner.pool)
        for job in tuple(planner.jobs.values()):
            text = planner.pool.infeasible(*job.shape)
            if text is not None:
                planner.remove(job.jobid)
                self._deny(job.request, job.jobid, text)

    # The job manager.

    @event_handler("job-manager.hello", prefix=False)
    def manager_came(self, msg: Message) -> None:
        """There is another job manager. It says who holds what, and asks for all that the former one asked for."""
        old = self.planner
        if old is None:
            return
        self._begin(self._resources)
        planner = self._the_planner()
        planner.pool.up = old.pool.up
        planner.expiration = old.expiration
        self._say_hello(planner)

    def _say_hello(self, planner: Planner) -> None:
        self.ready = False
        self._greetings += 1
        greeting = self._greetings

        def said() -> None:
            if greeting == self._greetings:
                self._said_hello(greeting)

        say_hello(self, planner.pool, self.options.partial_ok, said)

    def _said_hello(self, greeting: int) -> None:
        """Those who hold resources have what they hold: now others may come."""

        def answered(state: RpcState) -> None:
            if greeting != self._greetings:
                return
            if state.errnum:
                self.log.error(f"job-manager.sched-ready: {state.error_text()}")
                return
            self.ready = True
            mode = "unlimited" if self.options.limit is None else f"limited={self.options.limit}"
            assert isinstance(state.value, Message)
            self.log.debug(f"ready: mode {mode}, {state.value.payload['count']} jobs in queue")
            self._plan_soon()

        self.ask(b"job-manager.sched-ready", dump_payload(self.options.ready()), answered)

    # Requests of the job manager.

    def _plan_soon(self) -> None:
        """Something has changed that somebody may have waited for."""
        self._plan_next()
        if self._changes >= _MANY:
            self._plan()

    def _plan_next(self) -> None:
        """As `_plan_soon`, and never at once: for those who have called, and have more to do."""
        if not self._changes:
            self._soon.start()
        self._changes += 1

    def _the_planner(self) -> Planner:
        if self.planner is None:
            raise OSError(errno.EAGAIN, "the resources are not known yet")
        return self.planner

    @request_handler("sched.alloc", prefix=False)
    def alloc(self, msg: Message) -> None:
        """Payload: `AllocRequest`; answered when the job gets resources, or never will."""
        planner = self._the_planner()
        request = decode(msg, AllocRequest)
        jobid = request.id
        if self.module.debug_flags & _DENY and self.debug_test(_DENY, True):
            self._deny(msg, jobid, "DEBUG_FAIL_ALLOC")
            return
        if jobid in planner.jobs or jobid in planner.pool.jobs:
            raise OSError(errno.EEXIST, f"job {fluid.f58(jobid)} has been asked for already")
        self._enter(msg, jobid, request.priority, bytes(request.jobspec))

    def enter(self, asker: Module, jobid: int, priority: int, jobspec: bytes) -> bool:
        """As of NearScheduler."""
        planner = self.planner
        if planner is None or self.module.debug_flags or jobid in planner.jobs or jobid in planner.pool.jobs:
            return False
        try:
            shape, duration = self._shapes.of(jobspec)
        except Refused:
            return False
        planner.add(Pending(jobid, priority, shape, duration, Called(asker, jobspec)))
        self._plan_next()
        return True

    def _enter(self, asked: Message | Called, jobid: int, priority: int, jobspec: bytes) -> None:
        """A job waits from now on, or is denied."""
        try:
            shape, duration = self._shapes.of(jobspec)
        except Refused as exc:
            self._deny(asked, jobid, str(exc) if exc.infeasible else f"cannot parse jobspec: {exc}")
            return
        self._the_planner().add(Pending(jobid, priority, shape, duration, asked))
        self._plan_soon()

    @request_handler("sched.free", prefix=False)
    def free(self, msg: Message) -> None:
        """Payload: `FreeRequest`. No response."""
        request = decode(msg, FreeRequest)
        try:
            self._free(request.id, request.R.execution, request.final)
        except ValueError as exc:
            raise OSError(errno.EPROTO, f"bad R in sched.free: {exc}") from None

    def give_back(self, jobid: int, R: bytes, final: bool) -> bool:
        """As of NearScheduler."""
        if self.planner is None:
            return False
        try:
            self._free(jobid, _held_r(R).execution, final)
        except (ValueError, *UNREADABLE):
            return False
        return True

    def _free(self, jobid: int, execution: Execution, final: bool) -> None:
        """A job gives back what R says. Raises ValueError for an R that is none."""
        planner = self._the_planner()
        job = planner.pool.jobs.get(jobid)
        if job is None:
            self.log.error(f"free: {fluid.f58(jobid)}: the job has no resources")
            return
        grants, held = grants_of(execution), job.grants
        if grants != held:
            self._check_free(jobid, grants, held, final)
        if final:
            planner.pool.free(jobid)
        else:
            planner.pool.free(jobid, sum(1 << rank for rank in grants))
        if planner.jobs:
            planner.unsettle()
            self._plan_next()

    def _check_free(self, jobid: int, grants: dict[int, Grant], held: dict[int, Grant], final: bool) -> None:
        """Says so if what comes back is not what was given; what was given is what is free then."""
        pool = self._the_planner().pool
        strange = sorted(rank for rank in grants if rank not in held and pool.ranks >> rank & 1)
        if strange:
            self.log.error(f"free: {fluid.f58(jobid)}: R contains ranks not in job allocation: {strange}")
        elif final and held.keys() - grants.keys():
            self.log.error(
                f"free: {fluid.f58(jobid)}: final R mismatch: got {summary(tuple(grants.values()))}, "
                f"expected {summary(tuple(held.values()))}"
            )

    @request_handler("sched.cancel", prefix=False)
    def cancel(self, msg: Message) -> None:
        """Payload: `CancelRequest`; the job's sched.alloc is answered. No response to this."""
        job = self._the_planner().remove(decode(msg, CancelRequest).id)
        if job is not None:
            self._answer(job.request, f'{{"id": {job.jobid}, "type": 3}}\0'.encode())
            self._plan_soon()

    @request_handler("sched.prioritize", prefix=False)
    def prioritize(self, msg: Message) -> None:
        """Payload: `PrioritizeRequest`. No response."""
        planner = self._the_planner()
        for jobid, priority in decode(msg, PrioritizeRequest).jobs:
            planner.prioritize(jobid, priority)
        self._plan_soon()

    @request_handler("sched.expiration", prefix=False)
    def expiration(self, msg: Message) -> None:
        """Payload: `ExpirationRequest`; an error refuses."""
        planner = self._the_planner()
        request = decode(msg, ExpirationRequest)
        if request.expiration < 0:
            raise OSError(errno.EINVAL, "expiration must not be negative")
        if self.module.debug_flags & _REFUSE and self.debug_test(_REFUSE, True):
            raise OSError(errno.EINVAL, "Rejecting expiration update for testing")
        job = planner.pool.jobs.get(request.id)
        if job is not None:
            planner.pool.set_expiration(request.id, request.expiration)
            planner.unsettle()
            self._plan_soon()
        self.answer(msg)

    def _answer(self, asked: Message | Called | None, raw: bytes | None) -> None:
        """What was asked by a call may be answered by messages."""
        assert asked is not None
        self.answer(as_if_asked(asked.asker, b"sched.alloc") if isinstance(asked, Called) else asked, raw)

    def _deny(self, asked: Message | Called | None, jobid: int, note: str) -> None:
        self._answer(asked, dump_payload({"id": jobid, "type": 2, "note": note}))

    def _annotate(self, job: Pending, annotations: dict[str, Any]) -> None:
        self._answer(job.request, dump_payload({"id": job.jobid, "type": 1, "annotations": {"sched": annotations}}))

    # What anybody may ask.

    @request_handler("feasibility.check", prefix=False)
    def feasibility_check(self, msg: Message) -> None:
        """Payload: `FeasibilityRequest`; EOVERFLOW if it can never run, EINVAL if it makes no sense."""
        self._the_planner()
        try:
            self._shapes.of(bytes(decode(msg, FeasibilityRequest).jobspec))
        except Refused as exc:
            raise OSError(errno.EOVERFLOW if exc.infeasible else errno.EINVAL, str(exc)) from None
        self.answer(msg)

    @request_handler("sched.resource-status", prefix=False)
    def resource_status(self, msg: Message) -> None:
        """Answers `{"all": R, "allocated": R, "down": R}`."""
        self.handle.respond(msg, resource_status(self._resources, self._the_planner().pool))

    @request_handler("stats-get", allow_guest=True)
    def stats_get(self, msg: Message) -> None:
        """Answers numbers: how often was planned, how long that took, how many wait."""
        self.handle.respond(msg, self._passes.stats(0 if self.planner is None else len(self.planner.jobs)))

    # Planning.

    def _plan(self) -> None:
        """Starts whom it can."""
        self._soon.stop()
        self._changes = 0
        planner = self.planner
        if planner is None or not planner.jobs:
            return
        began = monotonic()
        now = time()
        backfill = planner.policy == BACKFILL and began >= self._backfill_due
        starts = planner.run(now, backfill)
        if backfill:
            done = monotonic()
            self._backfill_due = done + (done - began) / _BACKFILL_SHARE
        elif planner.policy == BACKFILL and planner.jobs and not self._again.active:
            self._again.reset(self._backfill_due - began, 0.0)
            self._again.start()
        if starts:
            self._keep(starts, now)
        if self.forecasts and planner.jobs:
            if began >= self._forecast_due:
                self._forecast()
            elif not self._later.active:
                self._later.reset(self._forecast_due - began, 0.0)
                self._later.start()
        if self.module.debug_flags & _EXPLAIN:
            for ahead, job in enumerate(planner.line):
                self._annotate(job, {"reason_pending": "insufficient resources", "jobs_ahead": ahead})
        self._passes.done(began)

    def _keep(self, starts: Sequence[Start], now: float) -> None:
        """Puts R of those who start into the KVS; they are told when it is there."""
        r = self._texts.r
        greeting = self._greetings
        texts = [r(start.grants, start.slots, now, start.expiration) for start in starts]
        manager = manager_of(self.broker)
        if manager is not None:
            # It stores R with the event that says so.
            for start, text in zip(starts, texts, strict=True):
                manager.grant(start.job.jobid, text.encode(), {"sched": _annotations(start)})
            return
        operations = [operation(start.job.jobid, text) for start, text in zip(starts, texts, strict=True)]

        def committed(state: RpcState) -> None:
            if greeting != self._greetings:
                return  # who has asked is gone, and has nothing
            if state.errnum:
                self._not_kept(starts, state)
                return
            for start, text in zip(starts, texts, strict=True):
                self._succeed(start, text)

        self.ask(b"kvs.commit", commit(operations), committed)

    def _succeed(self, start: Start, r: str) -> None:
        job = start.job
        self._answer(job.request, success(job.jobid, r, dumps(_annotations(start))))

    def _not_kept(self, starts: Sequence[Start], state: RpcState) -> None:
        """R could not be written: those who were to start cannot."""
        text = f"R could not be stored: {state.error_text()}"
        self.broker.log.write(LOG_ERR, f"kvs.commit: {state.error_text()}", self.name)
        planner = self._the_planner()
        for start in starts:
            planner.pool.free(start.job.jobid)
            self._deny(start.job.request, start.job.jobid, text)
        self._plan_soon()

    def _forecast(self) -> None:
        """Tells those who wait when they will start, if that is another time than they think."""
        planner = self.planner
        self._later.stop()
        if planner is None or not planner.jobs:
            return
        began = monotonic()
        told = 0
        for job, when in planner.forecast(time(), _FORETOLD):
            if job.annotated != when:
                job.annotated = when
                self._annotate(job, {"t_estimate": when})
                told += 1
        self._passes.forecasts += 1
        now = monotonic()
        self._forecast_due = now + (now - began + told * _ANNOTATION) / _FORECAST_SHARE


def _annotations(start: Start) -> dict[str, Any]:
    """What people are told of an allocation."""
    annotations: dict[str, Any] = {} if start.job.annotated is None else {"t_estimate": None}
    annotations["resource_summary"] = summary(start.grants)
    if start.ahead_of:
        annotations["backfill"] = fluid.f58(start.ahead_of)
    return annotations


class SchedSimple(Scheduler):
    """sched-simple: in order, with forecasts."""


class SchedFifo(Scheduler):
    """sched-fifo: in order."""

    forecasts = False


class SchedBackfill(Scheduler):
    """sched-backfill: others may start while the first in line has to wait, if they are not in its way."""

    policy = BACKFILL
    limit = None
