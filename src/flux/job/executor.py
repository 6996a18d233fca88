"""FluxExecutor: jobs as futures of `concurrent.futures` (spec 06, 15.9).

    with flux.job.FluxExecutor() as executor:
        futures = [executor.submit(jobspec) for _ in range(10)]
        for future in concurrent.futures.as_completed(futures):
            print(future.jobid(), future.result())

Each thread of an executor has a connection of its own, on which it submits what it is dealt and follows those jobs
to their ends. What is dealt to it wakes it up.

A job has ten events or so, and a thread may follow thousands of jobs: what each event costs is what an executor costs.
So events are taken in where they arrive, by a hook on the stream's state, without a future and its continuation.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from flux.core.future_state import RpcState
from flux.core.handle import Flux
from flux.eventlog import EventLogEvent
from flux.job._executorfuture import FluxExecutorFuture, as_passed
from flux.job._requests import cancel_eventlog, core_of, event_of, watch_eventlog, wire_id
from flux.job.event import MAIN_EVENTS, JobException
from flux.job.submit import SubmitFuture, submit_async, submit_get_id

__all__ = ["MAIN_EVENTS", "FluxExecutor", "FluxExecutorFuture"]


class _SubmitPackage(NamedTuple):
    """A job to submit."""

    submit_args: tuple[Any, ...]
    submit_kwargs: Mapping[str, Any]
    future: FluxExecutorFuture


class _AttachPackage(NamedTuple):
    """A job to follow."""

    jobid: Any
    future: FluxExecutorFuture


class _Bell:
    """Wakes the loop of a thread: to that it is one more source of messages.

    A watched descriptor would do as well, but a loop that has one asks the kernel before each message that it handles.

    Args:
        answer: called in the loop, some time after it was rung.
    """

    def __init__(self, answer: Callable[[], None]) -> None:
        self._answer = answer
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # It is rung by others: the lock is for the end of it.
        self._lock = threading.Lock()
        self._rung = False
        self.closed = False

    def ring(self) -> bool:
        """Has it answered; False if nobody is there any more."""
        with self._lock:
            if self.closed:
                return False
            if not self._rung:
                self._rung = True
                os.eventfd_write(self._fd, 1)
            return True

    def close(self) -> bool:
        """Releases the descriptor; False if that was done before."""
        with self._lock:
            if self.closed:
                return False
            self.closed = True
            os.close(self._fd)
            return True

    def fileno(self) -> int:
        """What the loop polls."""
        return self._fd

    def read_ready(self) -> bool:
        """It was rung."""
        with self._lock:
            self._rung = False
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._fd)
        return True

    def dispatch(self) -> bool:
        """Answers."""
        self._answer()
        return False


class _FluxExecutorThread(threading.Thread):
    """Submits and follows jobs.

    Args:
        broken_event: set if this thread ends by an error.
        exit_event: once set, the thread ends when it has nothing left to do.
        jobspecs_to_submit: what is to be done; others append to it, and call `wake`.
        poll_interval: seconds after which it looks at those without having been woken.
        handle_args, handle_kwargs: for `flux.Flux`.
    """

    def __init__(
        self,
        broken_event: threading.Event,
        exit_event: threading.Event,
        jobspecs_to_submit: deque[_SubmitPackage | _AttachPackage],
        poll_interval: float,
        handle_args: Sequence[Any],
        handle_kwargs: Mapping[str, Any],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.__broken_event = broken_event
        self.__exit_event = exit_event
        self.__jobspecs_to_submit = jobspecs_to_submit
        self.__poll_interval = poll_interval
        # With the stream of the job's events, once there is one.
        self.__running_user_futures: dict[FluxExecutorFuture, RpcState | None] = {}
        self.__flux_handle = Flux(*handle_args, **handle_kwargs)
        self.__bell = _Bell(lambda: self.__take())

    def wake(self) -> bool:
        """Has the thread look at what there is to do; False if it never will again."""
        return self.__bell.ring()

    def close(self) -> None:
        """Releases the connection and the descriptor: at the end of the thread, or if it is never started."""
        if self.__bell.close():
            self.__flux_handle.__exit__(None, None, None)

    def __work_remains(self) -> bool:
        """True if there is something to do, or may yet be."""
        return not self.__exit_event.is_set() or bool(self.__jobspecs_to_submit) or bool(self.__running_user_futures)

    def __polled(self, handle: Flux, watcher: Any, revents: int, args: Any) -> None:
        self.__take()

    def __take(self) -> None:
        """Takes on all that there is to do."""
        while self.__jobspecs_to_submit:
            package = self.__jobspecs_to_submit.popleft()
            future = package.future
            if not future.set_running_or_notify_cancel():
                continue
            self.__running_user_futures[future] = None
            try:
                if isinstance(package, _SubmitPackage):
                    submitted = submit_async(self.__flux_handle, *package.submit_args, **package.submit_kwargs)
                    submitted.then(self.__submitted, future)
                else:
                    future._set_jobid(package.jobid)
                    self.__follow(as_passed(package.jobid), future)
            except Exception as exc:  # noqa: BLE001  # whatever it is, it is the future's
                self.__end(future, exc)
        self.__maybe_stop()

    def __submitted(self, submitted: SubmitFuture, future: FluxExecutorFuture) -> None:
        try:
            jobid = submit_get_id(submitted)
            future._set_jobid(jobid)
            self.__follow(jobid, future)
        except Exception as exc:  # noqa: BLE001  # whatever it is, it is the future's
            self.__end(future, exc)
            self.__maybe_stop()

    def __follow(self, jobid: Any, future: FluxExecutorFuture) -> None:
        stream = watch_eventlog(core_of(self.__flux_handle), wire_id(jobid), "eventlog")
        self.__running_user_futures[future] = stream
        stream.add_hook(lambda: self.__heard(stream, future))
        stream.watch()  # the loop is to go on as long as this does

    def __heard(self, stream: RpcState, future: FluxExecutorFuture) -> None:
        """An event of a job, or the end of its eventlog."""
        try:
            if not stream.errnum:
                event = event_of(stream)
                stream.reset()
                if event is not None:
                    self.__happened(event, future)
                return
            ended = _why(stream)
        except Exception as exc:  # noqa: BLE001  # whatever it is, it is the future's
            ended = exc
        self.__end(future, ended)
        self.__maybe_stop()

    def __happened(self, event: EventLogEvent, future: FluxExecutorFuture) -> None:
        name = event["name"]
        if name in MAIN_EVENTS:
            future._set_event(event)
        if name == "finish":
            if not future.done():
                status = event["context"]["status"]
                try:
                    future.set_result(os.waitstatus_to_exitcode(status))
                except ValueError:
                    future.set_exception(ValueError(status))
        elif name == "exception" and event["context"]["severity"] == 0 and not future.done():
            future.set_exception(JobException(event))

    def __end(self, future: FluxExecutorFuture, exc: BaseException | None) -> None:
        """Nothing more will be heard of a job."""
        stream = self.__running_user_futures.pop(future, None)
        if stream is not None:
            stream.hooks = None  # no reference cycle
            with contextlib.suppress(OSError):
                cancel_eventlog(stream)
        if not future.done():
            future.set_exception(exc or RuntimeError("the job's eventlog has ended without telling how the job did"))

    def __maybe_stop(self) -> None:
        if not self.__work_remains():
            self.__flux_handle.reactor_stop()

    def __run(self) -> None:
        handle = self.__flux_handle
        bell = handle.core.reactor.source(self.__bell)
        timer = handle.timer_watcher_create(self.__poll_interval, self.__polled, repeat=self.__poll_interval)
        bell.start()
        timer.start()
        try:
            self.__take()
            while self.__work_remains():
                handle.reactor_run()
        finally:
            bell.stop()
            timer.destroy()

    def run(self) -> None:
        """Works until there is no more to do."""
        try:
            self.__run()
        except BaseException as exc:
            self.__broken_event.set()
            for stream in self.__running_user_futures.values():
                if stream is not None:
                    stream.hooks = None  # it is not the end of the connection that they are to fail with
            self.close()
            for future in list(self.__running_user_futures):
                self.__end(future, exc)
            while self.__jobspecs_to_submit:
                waiting = self.__jobspecs_to_submit.popleft().future
                if waiting.set_running_or_notify_cancel():
                    waiting.set_exception(exc)
            raise
        finally:
            self.close()


def _why(stream: RpcState) -> Exception | None:
    """The exception that the end of a job's events is to the job's future; None: they ended as they should."""
    if stream.errnum == errno.ENODATA:
        return None
    if stream.errnum == errno.ENOENT:
        return ValueError("job ID does not match any job")
    return OSError(stream.errnum, stream.error_text())


class FluxExecutor:
    """Submits jobs, and gives a future for each.

    Args:
        threads: how many connections to use; submissions are dealt to them in turn.
        thread_name_prefix: threads are called PREFIX-N.
        poll_interval: seconds between looks at what is to be done; what is submitted is seen at once in any case.
        handle_args, handle_kwargs: for `flux.Flux`.

    Raises OSError if there is no connection to be had, ValueError for less than one thread. Use it in ``with``, or
    call `shutdown`.
    """

    #: What `FluxExecutorFuture.add_event_callback` takes.
    EVENTS = MAIN_EVENTS

    _counter = itertools.count()

    def __init__(
        self,
        threads: int = 1,
        thread_name_prefix: str = "",
        poll_interval: float = 0.1,
        handle_args: Sequence[Any] = (),
        handle_kwargs: Mapping[str, Any] = {},  # never changed
    ) -> None:
        self._lock = threading.Lock()
        self._shut_down = False
        self._threads: list[_FluxExecutorThread] = []
        self._queues: list[deque[_SubmitPackage | _AttachPackage]] = []
        if threads <= 0:
            raise ValueError("the number of threads must be > 0")
        prefix = thread_name_prefix or f"FluxExecutor-{next(self._counter)}"
        self._broken_event = threading.Event()
        self._exit_event = threading.Event()
        try:
            for number in range(threads):
                work: deque[_SubmitPackage | _AttachPackage] = deque()
                thread = _FluxExecutorThread(
                    self._broken_event,
                    self._exit_event,
                    work,
                    poll_interval,
                    handle_args,
                    handle_kwargs,
                    name=f"{prefix}-{number}",
                    daemon=True,
                )
                self._threads.append(thread)
                self._queues.append(work)
        except BaseException:
            for thread in self._threads:
                thread.close()
            self._threads.clear()
            raise
        self._turn = itertools.cycle(range(threads))
        for thread in self._threads:
            thread.start()

    def submit(self, *args: Any, **kwargs: Any) -> FluxExecutorFuture:
        """Submits a job. Arguments as of `flux.job.submit`, without the handle.

        Whatever is wrong with them, or with the job, is an exception of the future. Raises RuntimeError after
        `shutdown`, and if a thread has died.
        """
        return self._deal(lambda future: _SubmitPackage(args, kwargs, future))

    def attach(self, jobid: Any) -> FluxExecutorFuture:
        """The future of a job that exists. Raises what `submit` does."""
        return self._deal(lambda future: _AttachPackage(jobid, future))

    def _deal(self, package: Any) -> FluxExecutorFuture:
        with self._lock:
            if self._shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._broken_event.is_set():
                raise RuntimeError("Executor is broken, new futures cannot be scheduled")
            number = next(self._turn)
            thread = self._threads[number]
            future = FluxExecutorFuture(thread.ident)
            self._queues[number].append(package(future))
        if not thread.wake():
            # It has died just now; what it did not fail any more nobody has.
            raise RuntimeError("Executor is broken, new futures cannot be scheduled")
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more submissions; may be called again.

        Args:
            wait: return when all jobs are inactive. Otherwise they are followed in the background.
            cancel_futures: cancel the futures whose jobs have not been submitted yet.
        """
        with self._lock:
            self._shut_down = True
            if not self._threads:
                return
            self._exit_event.set()
            if cancel_futures:
                for work in self._queues:
                    with contextlib.suppress(IndexError):  # the thread takes from it as well
                        while True:
                            future = work.popleft().future
                            future.cancel()
                            future.set_running_or_notify_cancel()
        for thread in self._threads:
            thread.wake()
        if wait:
            for thread in self._threads:
                if thread is not threading.current_thread():  # a callback may be the last to hold an executor
                    thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.shutdown(wait=True)

    def __del__(self, over: Callable[[], bool] = sys.is_finalizing) -> None:
        if not over():  # the threads have ended with the interpreter, and modules may be empty
            self.shutdown(wait=True)
