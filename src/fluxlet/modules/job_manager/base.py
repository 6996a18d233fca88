"""The job manager's parts put together, and what they need of the broker: the base of the classes that serve requests.

job-manager.submit -> Engine.post -> Journal -> listeners
                                  -> Batch -> kvs.commit
                                  -> Alloc -> sched.alloc ~~> alloc -> <exec>.start ~~> start, finish, release
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from syslog import LOG_CRIT
from typing import Any, cast

import msgspec

from flux.constants import FLUX_MSGFLAG_NORESPONSE, FLUX_MSGFLAG_PRIVATE, FLUX_MSGTYPE_REQUEST
from flux.core.future_state import FutureState, RpcState
from flux.core.handle import Flux
from flux.future import Future
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.modules.job_manager import policy
from fluxlet.modules.job_manager.alloc import Alloc
from fluxlet.modules.job_manager.batch import Batch
from fluxlet.modules.job_manager.begin_time import BeginTime
from fluxlet.modules.job_manager.dependencies import After
from fluxlet.modules.job_manager.directories import Directories
from fluxlet.modules.job_manager.engine import Engine, Ports
from fluxlet.modules.job_manager.job import Job
from fluxlet.modules.job_manager.journal import Journal
from fluxlet.modules.job_manager.past import Pasts
from fluxlet.modules.job_manager.plugin_manager import Manager
from fluxlet.modules.job_manager.plugins import Plugins
from fluxlet.modules.job_manager.queues import Queues
from fluxlet.modules.job_manager.singleton import Singleton
from fluxlet.modules.job_manager.waits import Waits, Zombie
from fluxlet.modules.kvs.operation import Commit, payload
from fluxlet.service import Service
from fluxlet.soon import Soon

#: Jobs for which something is done before the loop looks after others.
AT_ONCE = 100

_encode = msgspec.json.Encoder().encode


def own_table(config: dict[str, Any]) -> dict[str, Any]:
    """The table [job-manager] of a configuration. Raises OSError(EINVAL) for one that is none."""
    table = config.get("job-manager", {})
    if not isinstance(table, dict):
        raise OSError(errno.EINVAL, "error parsing [job-manager] config table: not a table")
    return table


class Base(Service):
    """See the module."""

    service = ""
    """Of the execution service; none has said hello yet."""

    def __init__(self, handle: Flux, broker: Broker, *args: str) -> None:
        self.max_jobid = 0
        self.loading = True
        self._held: list[tuple[Message, Callable[[], Any]]] = []
        super().__init__(handle, broker, *args)
        reactor = self.module.reactor
        self._commit_soon = Soon(reactor, self._flush)
        # What may wait lets this pass of the loop come to its end: what is to be sent goes out, jobs run meanwhile.
        self._commit_later = Soon(reactor, self._commit_soon.ask)
        self._journal_soon = Soon(reactor, self._flush_journal)
        attributes = broker.attributes.visible
        durable = bool(attributes.get("statedir")) and attributes.get("statedir-cleanup", "1") != "1"
        self.batch = Batch(self, durable)
        self.journal = Journal(self.module.post, self._journal_soon.ask)
        self.queues = Queues()
        self.alloc = Alloc(self, lambda job: job.stored and self.queues.started(job.spec.system.queue))
        self.engine = Engine(cast(Ports, self), self.journal, self.batch, self.alloc)
        self.pasts = Pasts()
        self.directories = Directories()
        self.waits = Waits(self._answer_wait, self._refuse_wait)
        self.after = After(self.engine, self.pasts)
        self.singleton = Singleton(self.engine)
        self.begin_time = BeginTime(self.engine, self.timer)
        self.schemes: dict[str, After | Singleton | BeginTime] = {
            scheme: handler for handler in (self.after, self.singleton, self.begin_time) for scheme in handler.SCHEMES
        }
        builtins: dict[str, Callable[[], dict[str, Any]]] = {
            ".priority-default": dict,
            ".limit-job-size": dict,
            ".limit-duration": dict,
            ".dependency-after": self.after.query,
            ".dependency-singleton": self.singleton.query,
            ".begin-time": dict,
            ".validate-duration": dict,
            ".update-duration": dict,
            ".history": dict,
            ".post-event": dict,
            ".update-queue": dict,
        }
        self.plugins = Plugins(self.engine, builtins, lambda name: Manager(self, name))
        self.engine.plugins = self.plugins
        self.settings = self._read_config(broker.config)

    def _callback(self, method: Callable[[Message], Any]) -> Callable[[Flux, Any, Message, Any], Any]:
        return self._later(super()._callback(method))

    def when_loaded(self, method: Callable[[Message], Any]) -> Callable[[Flux, Any, Message, Any], Any]:
        """What calls a method with a request, once all jobs of a former life are there."""
        return self._later(lambda handle, watcher, message, args: method(message))

    def _later(self, call: Callable[[Flux, Any, Message, Any], Any]) -> Callable[[Flux, Any, Message, Any], Any]:
        def when_loaded(handle: Flux, watcher: Any, message: Message, args: Any) -> Any:
            if self.loading:
                self._held.append((message, lambda: call(handle, watcher, message, args)))
                return None
            return call(handle, watcher, message, args)

        return when_loaded

    def loaded(self) -> None:
        """All jobs of a former life are there: what has been asked meanwhile is answered."""
        self.loading = False
        for _, call in self._take_held():
            call()

    def _take_held(self) -> list[tuple[Message, Callable[[], Any]]]:
        held, self._held = self._held, []
        return held

    def unloading(self) -> None:
        """The module comes to its end: what is asked from here on is not heard."""
        self.loading = True

    def refuse(self, requests: Iterable[Message]) -> None:
        """Tells those who wait that the module ends, and those who were not heard."""
        held = [message for message, _ in self._take_held()]
        for request in (*requests, *held):
            if request._type == FLUX_MSGTYPE_REQUEST and not request.flags & FLUX_MSGFLAG_NORESPONSE:
                self.handle.respond_error(request, errno.ENOSYS, "job-manager is unloading")

    async def stored(self) -> None:
        """Until all that has been posted so far is stored."""
        state = FutureState()
        state.ctx = self.handle.core
        self.batch.after(lambda: state.fulfil(None))
        await Future(state)

    def own_topics(self) -> set[str]:
        """The topics of the requests that the job manager serves itself."""
        return {f"{self.name}.{handler['topic']}" for _, handler in self._handlers()}

    # Configuration.

    def _read_config(self, config: dict[str, Any]) -> policy.Settings:
        try:
            settings = policy.read(config)
            self.plugins.configure(config)
        except ValueError as exc:
            raise OSError(errno.EINVAL, str(exc)) from None
        self.engine.config = config
        self.queues.configure(settings)
        return settings

    # What the parts need: time, the log, the KVS, others.

    def timer(self, seconds: float, callback: Callable[[], None]) -> Any:
        """Calls back once; the result has `stop`."""
        timer = self.module.reactor.timer(seconds, 0.0, callback)
        timer.start()
        return timer

    async def next_pass(self) -> None:
        """Until the loop comes by again: for what takes long, which it does AT_ONCE jobs at a time."""
        passed = FutureState()
        passed.ctx = self.handle.core
        self.timer(0.0, lambda: passed.fulfil(None))
        await Future(passed)

    def write_log(self, severity: int, text: str) -> None:
        """Logs."""
        self.broker.log.write(severity, text, self.name)

    def soon(self, delay: float) -> None:
        """Commits in so many seconds; 0: when the loop has nothing more to read."""
        if delay:
            self._commit_later.ask_in(delay)
        else:
            self._commit_soon.ask()

    @property
    def in_view(self) -> bool:
        """As of Ports."""
        return False

    def watched(self, key: str) -> bool:
        """Whether somebody waits for a key of the primary namespace to change, or may look without our being told."""
        return True

    def _flush(self) -> None:
        self._commit_later.stop()
        self.batch.flush()

    def _flush_journal(self) -> None:
        self.journal.flush()

    def commit(self, commit: Commit) -> None:
        """Sends a transaction to the KVS."""

        def answered(state: RpcState) -> None:
            self.committed(state.errnum, state.errtext)

        self.ask(b"kvs.commit", payload(commit), answered)

    def committed(self, errnum: int, text: str | None) -> None:
        """A transaction has been made; or not, then `errnum` is not 0."""
        if errnum:
            text = text or errno.errorcode.get(errnum, str(errnum))
            self.write_log(LOG_CRIT, f"cannot store the events of jobs: kvs.commit: {text}")
            self.broker.module_failed(self.module, OSError(errnum, text))
            return
        self.batch.ended()

    def request(self, topic: bytes, payload: bytes) -> None:
        """Sends a request whose response is matched by its topic and id."""
        self.module.post(Message.request(topic, payload))

    def tell(self, topic: bytes, payload: bytes) -> None:
        """Sends a request that has no response."""
        self.module.post(Message.request(topic, payload, flags=FLUX_MSGFLAG_NORESPONSE))

    def enter(self, job: Job) -> bool:
        """As of `alloc.Scheduler`."""
        return False

    def give_back(self, jobid: int, R: bytes, final: bool) -> bool:
        """As of `alloc.Scheduler`."""
        return False

    def send_event(self, topic: str, event: Any, private: bool = False) -> None:
        """Publishes an event."""
        flags = FLUX_MSGFLAG_PRIVATE if private else 0
        self.module.post(Message.event(topic.encode(), _encode(event) + b"\0", flags))

    def raised(self, job: Job, context: dict[str, Any]) -> None:
        """An exception is to be published."""
        event = {"id": job.id, "type": context["type"], "severity": context["severity"]}
        if "wait_status" in context:
            event["wait_status"] = context["wait_status"]
        self.send_event("job-exception", event, private=True)

    # Waiting.

    def _answer_wait(self, request: Message, job: Zombie) -> None:
        self.journal.flush()
        self.answer(request, _encode({"id": job.id, "success": job.success, "errstr": job.errstr}) + b"\0")

    def _refuse_wait(self, request: Message, text: str) -> None:
        self.handle.respond_error(request, errno.ECHILD, text)

    def lifetime(self) -> float | None:
        """Seconds that the instance has left; None: no end is known."""
        return None

    def check_idle(self) -> None:
        """Fewer jobs run, or may be about to, than before."""

    # Finding jobs.

    def find(self, jobid: int, errnum: int, unknown: str, inactive: str = "job is inactive") -> Job:
        """An active job. Raises OSError with `errnum` and a text for one that is not."""
        job = self.engine.jobs.get(jobid)
        if job is None:
            raise OSError(errnum, inactive if jobid in self.pasts.jobs else unknown)
        return job
