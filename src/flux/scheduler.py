"""Writing a scheduler: the base class that talks to the rest of an instance (RFC 27; spec 07, 8.4).

    class Fifo(Scheduler):
        def schedule(self):
            while self._queue:
                job = self._queue[0]
                try:
                    R = self.resources.alloc(job.jobid, job.resource_request)
                except InsufficientResources:
                    return
                heapq.heappop(self._queue)
                job.request.success(R)

A file with such a class is a module: ``flux module remove sched-simple; flux module load ./fifo.py``.

Rules that hold here:
- `schedule` is called when something has changed, from the loop, never from within a handler. As a generator it is
  run a step at a time, and begun anew when something changes meanwhile.
- R is in the KVS before the job manager is told of it. Until then the allocation is the pool's word only.
- What goes wrong with one job's request denies that job.
"""

from __future__ import annotations

import copy
import errno
import heapq
import inspect
import os
import time
from collections.abc import Generator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from flux import kvs
from flux.brokermod import BrokerModule, event_handler, request_handler
from flux.constants import FLUX_RPC_NORESPONSE, FLUX_RPC_STREAMING
from flux.core import fluid
from flux.core.alloc_request import ANNOTATE, CANCEL, DENY, SUCCESS, AllocRequest, PendingJob, r_of
from flux.idset import IDset
from flux.resource.ResourcePool import ResourcePool
from flux.resource.ResourcePoolImplementation import InfeasibleRequest, InsufficientResources
from flux.resource.ResourceSet import ResourceSet

if TYPE_CHECKING:
    from flux.core.handle import Flux
    from flux.message import Message

__all__ = [
    "AllocRequest",
    "InfeasibleRequest",
    "InsufficientResources",
    "PendingJob",
    "ResourcePool",
    "Scheduler",
]


class Scheduler(BrokerModule):
    """A scheduler. A subclass defines `schedule`, and whatever else it wants to do in another way.

    Args:
        h: the module's handle.
        args: ``queue-depth=N|unlimited``, ``mode=limited=N|unlimited``, ``log-level=NAME``, ``pool-class=URI``.

    Raises ValueError for other arguments.

    Attributes:
        _queue: the pending jobs, a heap (`heapq`) of PendingJob. It is called so in flux-core, whose guide has it in
            its first example of a scheduler; `queue` is the same.
    """

    #: How many requests the job manager sends ahead: a number, or "unlimited".
    queue_depth: int | str = "unlimited"
    #: The longest that `schedule` is put off when changes come faster than it is done, in seconds.
    SCHED_DELAY_MAX = 1.0
    #: How fast the mean duration and interval of passes follow.
    SCHED_EWMA_ALPHA = 0.25
    #: Whether jobs that have given back a part of their resources are named at the start.
    hello_partial_ok = True
    #: What makes the pool from R; None: ResourcePool, or what R says.
    pool_class: Any = None
    #: Further arguments of that.
    pool_kwargs: ClassVar[dict[str, Any]] = {}

    def __init__(self, h: Flux, *args: str) -> None:
        super().__init__(h, *args)
        for arg in args:
            self._argument(arg)
        self._queue: list[PendingJob] = []
        self._resources: Any = None
        self._R: dict[str, Any] = {}
        self._up, self._gone = IDset(), IDset()  # of the ranks of that
        self._ready = False
        self._pass: Generator[Any, Any, Any] | None = None
        self._forecast: Generator[Any, Any, Any] | None = None
        self._due = h.timer_watcher_create(0.0, self._due_cb)
        self._stats: dict[str, Any] = {
            "sched_passes": 0,
            "sched_yields": 0,
            "forecast_passes": 0,
            "forecast_yields": 0,
            "sched_delay": 0.0,
            "sched_duration_ewma": 0.0,
            "sched_interval_ewma": 0.0,
        }
        self._last_pass = 0.0
        self._scheduled = False

    def _argument(self, arg: str) -> None:
        key, _, value = arg.partition("=")
        match key:
            case "queue-depth":
                self.queue_depth = value if value == "unlimited" else _depth(value)
            case "mode" if value == "unlimited":
                self.queue_depth = "unlimited"
            case "mode" if value.startswith("limited="):
                self.queue_depth = _depth(value.removeprefix("limited="))
            case "log-level":
                self.log.level = int(value) if value.isdecimal() else value
            case "pool-class":
                self.pool_class = resolve_pool_class(value)
            case _:
                raise ValueError(f"unknown argument '{arg}': built-in options are queue-depth, log-level, pool-class")

    @property
    def resources(self) -> Any:
        """The pool: a ResourcePool, or what `pool_class` makes."""
        return self._resources

    @property
    def queue(self) -> list[PendingJob]:
        """The pending jobs, a heap (`heapq`)."""
        return self._queue

    @queue.setter
    def queue(self, jobs: list[PendingJob]) -> None:
        self._queue = jobs

    # The start.

    def run(self) -> None:
        """Takes the service, gets the resources, and serves. Raises OSError."""
        for service in ("sched", "feasibility"):
            self.handle.service_register(service).get()
        self.set_running()
        acquire = self.handle.rpc("resource.acquire", flags=FLUX_RPC_STREAMING)
        first = acquire.get()
        self._R, self._up = first["resources"], IDset(first["up"])
        self._begin()
        acquire.reset()
        acquire.then(self._acquire_cb)
        self._hello()
        self._say_ready()
        super().run()

    def _begin(self) -> None:
        """A pool of which nobody has anything."""
        self._resources = self._make_pool(copy.deepcopy(self._R))
        if self._gone:
            self._resources.remove_ranks(self._gone)
        self._resources.mark_down("all")
        self._resources.mark_up(str(self._up))

    @event_handler("job-manager.hello", prefix=False)
    def _manager_came(self, msg: Message) -> None:
        """There is another job manager: it says who holds what, and asks for all that the former one asked for."""
        if self._resources is None:
            return
        self._ready = False
        for steps in (self._pass, self._forecast):
            if steps is not None:
                steps.close()
        self._pass = self._forecast = None
        expiration = self._resources.expiration
        self._queue.clear()
        self._begin()
        self._resources.expiration = expiration
        self._hello()
        self._say_ready()

    def _make_pool(self, R: dict[str, Any]) -> Any:
        log = self.log
        if self.pool_class is not None:
            return self.pool_class(R, log=log, **self.pool_kwargs)
        if "scheduling" in R and isinstance(R["scheduling"], dict):
            writer = R["scheduling"].get("writer", "fluxion")
            try:
                return resolve_pool_class(writer)(R, log=log, **self.pool_kwargs)
            except ValueError:
                self.log.debug(f"there is no pool class '{writer}'")
        return ResourcePool(R, log=log, **self.pool_kwargs)

    def _hello(self) -> None:
        payload = {"partial-ok": self.hello_partial_ok}
        rpc = self.handle.rpc("job-manager.sched-hello", payload, flags=FLUX_RPC_STREAMING)
        while True:
            try:
                held = rpc.get()
            except OSError as exc:
                if exc.errno == errno.ENODATA:
                    return
                raise
            self._hello_job(held)
            rpc.reset()

    def _hello_job(self, held: dict[str, Any]) -> None:
        jobid = held["id"]
        try:
            R = ResourceSet(kvs.get(self.handle, f"{fluid.kvs(jobid)}.R"))
            if "free" in held:
                R.remove_ranks(IDset(held["free"]))
            self.hello(jobid, held["priority"], held["userid"], held["t_submit"], R)
        except (ValueError, KeyError, OSError) as exc:
            self.log.error(f"hello: {fluid.f58(jobid)}: {exc}")
            note = "failed to reallocate R for running job"
            payload = {"id": jobid, "type": "scheduler-restart", "severity": 0, "note": note}
            self.handle.rpc("job-manager.raise", payload, flags=FLUX_RPC_NORESPONSE)

    def _say_ready(self) -> None:
        depth = self.queue_depth
        mode = {"mode": "unlimited"} if depth == "unlimited" else {"mode": "limited", "limit": int(depth)}
        count = self.handle.rpc("job-manager.sched-ready", mode).get()["count"]
        self.log.debug(f"ready: {count} jobs in queue")
        self._ready = True
        self.start_schedule()

    def _acquire_cb(self, rpc: Any) -> None:
        try:
            change = rpc.get()
        except OSError as exc:
            self.log.error(f"resource.acquire: {exc.strerror}")
            self.stop_error()
            return
        if "up" in change:
            self._resources.mark_up(change["up"])
            self._up += IDset(change["up"])
        if "down" in change:
            self._resources.mark_down(change["down"])
            self._up -= IDset(change["down"])
        if "shrink" in change:
            self._resources.remove_ranks(change["shrink"])
            self._gone += IDset(change["shrink"])
        if "expiration" in change:
            self._resources.expiration = change["expiration"]
        rpc.reset()
        self.resource_update()
        self.start_schedule()

    # When to schedule.

    def _request_schedule(self) -> None:
        """As `start_schedule`, for subclasses: something has changed."""
        self.start_schedule()

    def start_schedule(self) -> None:
        """Has `schedule` called, soon; what it was doing is begun anew."""
        if not self._ready:
            return
        if self._pass is not None:
            self._pass.close()
            self._pass = None
        if self._scheduled:
            return
        self._scheduled = True
        delay = 0.0
        stats = self._stats
        # Changes that come faster than a pass is done are gathered.
        if not inspect.isgeneratorfunction(self.schedule) and stats["sched_passes"]:
            waited = time.monotonic() - self._last_pass
            delay = min(self.SCHED_DELAY_MAX, max(0.0, stats["sched_duration_ewma"] - waited))
        stats["sched_delay"] = delay
        self._arm(delay)

    def _arm(self, delay: float) -> None:
        self._due.stop()
        self._due.destroy()
        self._due = self.handle.timer_watcher_create(delay, self._due_cb)
        self._due.start()

    def _due_cb(self, handle: Flux, watcher: Any, revents: int, args: Any) -> None:
        if self._scheduled:
            self._scheduled = False
            self._begin_pass()
        elif self._pass is not None:
            self._step("sched_yields", self._pass)
        elif self._forecast is not None:
            self._step("forecast_yields", self._forecast)

    def _begin_pass(self) -> None:
        began = time.monotonic()
        outcome = self.schedule()
        self._stats["sched_passes"] += 1
        if inspect.isgenerator(outcome):
            self._pass = outcome
            self._step("sched_yields", outcome)
        else:
            self._pass_done()
        self._mean("sched_duration_ewma", time.monotonic() - began)
        self._mean("sched_interval_ewma", began - self._last_pass if self._last_pass else 0.0)
        self._last_pass = began

    def _mean(self, name: str, value: float) -> None:
        self._stats[name] += self.SCHED_EWMA_ALPHA * (value - self._stats[name])

    def _step(self, counter: str, steps: Generator[Any, Any, Any]) -> None:
        """One step of a generator; the next one is due after whatever else there is to do."""
        try:
            next(steps)
        except StopIteration:
            if steps is self._pass:
                self._pass = None
                self._pass_done()
            else:
                self._forecast = None
            return
        self._stats[counter] += 1
        self._arm(0.0)

    def _pass_done(self) -> None:
        if self._forecast is not None:
            self._arm(0.0)  # it goes on
            return
        outcome = self.forecast()
        self._stats["forecast_passes"] += 1
        if inspect.isgenerator(outcome):
            self._forecast = outcome
            self._step("forecast_yields", outcome)

    # Answers.

    def alloc_success(self, msg: Message, R: Any, annotations: Any = None) -> None:
        """Gives a job resources, once R is in the KVS."""
        jobid = msg.payload["id"]
        r = r_of(R)
        payload: dict[str, Any] = {"id": jobid, "type": SUCCESS, "R": r}
        if annotations is not None:
            payload["annotations"] = annotations

        def committed(future: Any) -> None:
            try:
                future.get()
            except OSError as exc:
                self.log.error(f"{fluid.f58(jobid)}: R could not be stored: {exc.strerror}")
                self._resources.free(jobid)
                self.alloc_deny(msg, f"R could not be stored: {exc.strerror}")
                return
            self.handle.respond(msg, payload)

        transaction = kvs.KVSTxn(self.handle)
        transaction.put(f"{fluid.kvs(jobid)}.R", r)
        transaction.commit_async().then(committed)

    def alloc_deny(self, msg: Message, note: str | None = None) -> None:
        """Denies a job resources, for good."""
        payload: dict[str, Any] = {"id": msg.payload["id"], "type": DENY}
        if note is not None:
            payload["note"] = note
        self.handle.respond(msg, payload)

    def alloc_cancel(self, msg: Message) -> None:
        """Answers the request of a job that does not want resources any more."""
        self.handle.respond(msg, {"id": msg.payload["id"], "type": CANCEL})

    def alloc_annotate(self, msg: Message, annotations: dict[str, Any]) -> None:
        """Tells users something of a job that waits."""
        self.handle.respond(msg, {"id": msg.payload["id"], "type": ANNOTATE, "annotations": annotations})

    # What a subclass defines, or overrides.

    def schedule(self) -> Any:
        """Starts whom it can: a function, or a generator that yields when others may have a turn."""

    def forecast(self) -> Any:
        """Called after `schedule` has come to its end, for saying when jobs will start; may be a generator."""

    def resource_update(self) -> None:
        """Called when resources have come, gone, or will be lost at another time."""

    def hello(self, jobid: int, priority: int, userid: int, t_submit: float, R: Any) -> None:
        """A job has resources already. Raises ValueError if it cannot have them: the job then fails."""
        self._resources.register_alloc(jobid, R)

    def alloc(
        self, request: AllocRequest, jobid: int, priority: int, userid: int, t_submit: float, jobspec: Any
    ) -> None:
        """A job wants resources: it is put into `queue`, or denied if its request makes no sense, or never will do."""
        try:
            wanted = self._resources.parse_resource_request(jobspec)
        except ValueError as exc:
            request.deny(f"cannot parse jobspec: {exc}")
            return
        try:
            self._resources.check_feasibility(wanted)
        except InfeasibleRequest as exc:
            request.deny(str(exc))
            return
        except ValueError as exc:
            request.deny(f"cannot parse jobspec: {exc}")
            return
        heapq.heappush(self._queue, PendingJob(jobid, priority, t_submit, request, wanted))

    def free(self, jobid: int, R: Any, final: bool = False) -> None:
        """A job gives back R, the last of what it has if `final`."""
        self._resources.free(jobid, R, final)

    def cancel(self, jobid: int) -> None:
        """A job does not want resources any more."""
        for job in self._queue:
            if job.jobid == jobid:
                job.request.cancel()
                self._queue = [other for other in self._queue if other.jobid != jobid]
                heapq.heapify(self._queue)
                return

    def prioritize(self, jobs: Sequence[tuple[int, int]]) -> None:
        """Jobs get other priorities: (id, priority) of each."""
        changed = dict(jobs)
        for job in self._queue:
            if job.jobid in changed:
                job._priority = changed[job.jobid]
        heapq.heapify(self._queue)

    def expiration(self, msg: Message, jobid: int, expiration: float) -> None:
        """A job is to end at another time, seconds since the epoch; answers `msg`."""
        if expiration < 0:
            self.handle.respond_error(msg, errno.EINVAL, "expiration must not be negative")
            return
        self._resources.update_expiration(jobid, expiration)
        self.handle.respond(msg)

    def feasibility_check(self, msg: Message, jobspec: Any) -> None:
        """Answers whether a jobspec could ever run."""
        try:
            self._resources.check_feasibility(self._resources.parse_resource_request(jobspec))
        except InfeasibleRequest as exc:
            self.handle.respond_error(msg, errno.EOVERFLOW, str(exc))
        except ValueError as exc:
            self.handle.respond_error(msg, errno.EINVAL, str(exc))
        else:
            self.handle.respond(msg)

    def stats_get(self) -> dict[str, Any]:
        """What ``flux module stats`` shows."""
        return {**self._stats, "pending_jobs": len(self._queue)}

    # Requests.

    @request_handler("sched.alloc", prefix=False)
    def _alloc(self, msg: Message) -> None:
        payload = msg.payload
        request = AllocRequest(self, msg)
        values = [payload[key] for key in ("id", "priority", "userid", "t_submit", "jobspec")]
        self.alloc(request, *values)
        self.start_schedule()

    @request_handler("sched.free", prefix=False)
    def _free(self, msg: Message) -> None:
        payload = msg.payload
        try:
            self.free(payload["id"], ResourceSet(payload["R"]), payload.get("final", False))
        except ValueError as exc:
            self.log.error(str(exc))
        self.start_schedule()

    @request_handler("sched.cancel", prefix=False)
    def _cancel(self, msg: Message) -> None:
        self.cancel(msg.payload["id"])
        self.start_schedule()

    @request_handler("sched.prioritize", prefix=False)
    def _prioritize(self, msg: Message) -> None:
        self.prioritize(msg.payload["jobs"])
        self.start_schedule()

    @request_handler("sched.expiration", prefix=False)
    def _expiration(self, msg: Message) -> None:
        payload = msg.payload
        self.expiration(msg, payload["id"], payload["expiration"])
        self.start_schedule()

    @request_handler("feasibility.check", prefix=False)
    def _feasibility(self, msg: Message) -> None:
        self.feasibility_check(msg, msg.payload.get("jobspec"))

    @request_handler("sched.resource-status", prefix=False)
    def _resource_status(self, msg: Message) -> None:
        pool = self._resources
        sets = {"all": pool.to_resource_set(), "allocated": pool.copy_allocated(), "down": pool.copy_down()}
        self.handle.respond(msg, {state: rset.to_dict() for state, rset in sets.items()})

    @request_handler("stats-get", allow_guest=True)
    def _stats_get(self, msg: Message) -> None:
        self.handle.respond(msg, self.stats_get())


def _depth(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"'{text}' is not a number of jobs, or unlimited")
    return int(text)


def resolve_pool_class(uri: str) -> Any:
    """What a pool-class URI names (spec 07, 3.9). Raises ValueError.

    ``module`` or ``module:Class``; ``file:///DIR/Class.py`` or ``file:///DIR/FILE.py#Class``.
    """
    if uri.startswith("file://"):
        from flux.importer import import_path

        path, _, name = uri.removeprefix("file://").partition("#")
        try:
            return getattr(import_path(path), name or os.path.basename(path).removesuffix(".py"))
        except (OSError, AttributeError) as exc:
            raise ValueError(f"there is no pool class '{uri}': {exc}") from None
    place, _, name = uri.replace("-", "_").partition(":")
    for module in (place, f"flux.resource.{place}"):
        try:
            found = getattr(import_module(module), name or "pool_class")
        except (ImportError, AttributeError, ValueError):
            continue
        return found
    raise ValueError(f"there is no pool class '{uri}'")
