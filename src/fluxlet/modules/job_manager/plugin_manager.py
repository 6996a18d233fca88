"""What a plugin of the job manager can do besides answering: find jobs, serve requests, have timers, log.

Each plugin has a `Manager` of its own: what it has asked for ends with it.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from flux.constants import FLUX_MSGTYPE_REQUEST, FLUX_ROLE_OWNER, FLUX_ROLE_USER
from fluxlet.modules.job_manager.plugin import UNAVAILABLE, PastJob, PluginJob
from fluxlet.payload import read_object

if TYPE_CHECKING:
    from flux.message import Message
    from fluxlet.modules.job_manager.base import Base


class PluginRequest:
    """A request to a plugin. What its method returns is the answer, unless that is LATER."""

    __slots__ = ("_handle", "message")

    def __init__(self, handle: Any, message: Message) -> None:
        self._handle = handle
        self.message = message

    @property
    def payload(self) -> dict[str, Any]:
        """What was sent. Raises OSError(EPROTO) for what is no object."""
        return {} if self.message.raw is None else read_object(self.message)

    @property
    def userid(self) -> int:
        """Of who asks."""
        return self.message.userid

    @property
    def is_owner(self) -> bool:
        """Whether the instance's owner asks."""
        return bool(self.message.rolemask & FLUX_ROLE_OWNER)

    def respond(self, payload: Any = None) -> None:
        """Answers."""
        self._handle.respond(self.message, payload)

    def fail(self, errnum: int, text: str | None = None) -> None:
        """Answers with an error."""
        self._handle.respond_error(self.message, errnum, text)


#: What the method of an RPC returns if the answer comes later.
LATER: Final = object()


class Manager:
    """The job manager, as a plugin sees it. All of it may be used from callbacks of the loop only."""

    UNAVAILABLE: Final = UNAVAILABLE
    LATER: Final = LATER

    def __init__(self, base: Base, name: str) -> None:
        self._base = base
        self._engine = base.engine
        self._watchers: dict[str, Any] = {}
        self._timers: set[Any] = set()
        self.name = name
        """The plugin's."""

    def job(self, jobid: int) -> PluginJob | PastJob:
        """A job, active or not. Raises KeyError."""
        past = self._base.pasts.jobs.get(jobid)
        return PastJob(past) if past is not None else PluginJob(self._engine, self._engine.jobs[jobid])

    def jobs(self) -> list[PluginJob]:
        """All active jobs."""
        return [PluginJob(self._engine, job) for job in self._engine.jobs.values()]

    def reprioritize(self) -> None:
        """Asks plugins for the priority of every job that waits."""
        self._engine.reprioritize_all()

    def serve(self, method: str, callback: Callable[[PluginRequest], Any], allow_guest: bool = False) -> None:
        """Makes `callback` what answers requests `job-manager.<plugin>.<method>`.

        What it returns is the answer; raised: OSError is answered as it is, ValueError with EINVAL.

        Args:
            method: letters, digits, dots and dashes.
            callback: called with a PluginRequest.
            allow_guest: any user may ask, not only the instance's owner.

        Raises ValueError if there is such a method already.
        """
        topic = f"{self._base.name}.{self.name}.{method}"
        if topic in self._watchers or method in ("", "disconnect") or topic in self._base.own_topics():
            raise ValueError(f"there is a method {topic} already")
        handle = self._base.handle

        def call(message: Message) -> None:
            request = PluginRequest(handle, message)
            try:
                answer = callback(request)
            except OSError as exc:
                request.fail(exc.errno or errno.EINVAL, exc.strerror)
            except ValueError as exc:
                request.fail(errno.EINVAL, str(exc))
            except Exception as exc:  # noqa: BLE001  # code of others
                self.log(f"{topic}: {type(exc).__name__}: {exc}", 3)
                request.fail(errno.EINVAL, f"{type(exc).__name__}: {exc}")
            else:
                if answer is not LATER:
                    request.respond(answer)

        rolemask = FLUX_ROLE_OWNER | (FLUX_ROLE_USER if allow_guest else 0)
        watcher = handle.msg_watcher_create(
            self._base.when_loaded(call), FLUX_MSGTYPE_REQUEST, topic, rolemask=rolemask
        )
        watcher.start()
        self._watchers[topic] = watcher

    def timer(self, seconds: float, callback: Callable[[], None]) -> Any:
        """Calls back once, in `seconds`; the result has `stop()`. What the callback raises is logged."""

        def due() -> None:
            self._timers.discard(timer)
            try:
                callback()
            except Exception as exc:  # noqa: BLE001  # code of others
                self.log(f"timer: {type(exc).__name__}: {exc}", 3)

        timer = self._base.timer(seconds, due)
        self._timers.add(timer)
        return timer

    def log(self, text: str, severity: int = 6) -> None:
        """Logs."""
        self._engine.log(severity, f"plugin {self.name}: {text}")

    def close(self) -> None:
        """The plugin is gone: nobody calls it any more."""
        for watcher in self._watchers.values():
            watcher.destroy()
        for timer in self._timers:
            timer.stop()
        self._watchers, self._timers = {}, set()
