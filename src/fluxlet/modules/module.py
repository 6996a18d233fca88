"""The service `module`: loads, removes and shows the modules of a broker (spec 03, 13.4)."""

from __future__ import annotations

import errno
import os
from syslog import LOG_ERR
from typing import Any

import msgspec

from flux.brokermod import request_handler
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.broker.builtins import ARGUMENTS, SLEEPING
from fluxlet.broker.host import Module
from fluxlet.broker.loaded import STATUS_EXITED, STATUS_RUNNING, LoadedModule, Tracer
from fluxlet.broker.loading import Plan, default_name, plan
from fluxlet.broker.process_module import ProcessModule
from fluxlet.broker.trace import Trace, TraceRequest
from fluxlet.payload import cut, decode
from fluxlet.service import Service, check_no_payload, may_end, require_streaming

#: The highest errno that a module may say it has ended with.
_MAX_ERRNO = 4095


class LoadRequest(msgspec.Struct):
    """Payload of module.load.

    Args:
        path: name of a module, or path of its file.
        args: its arguments.
        name: what it is to be called.
        loader: the program that runs it (`fluxlet.broker.loading`).
        exec: run it as a process.
    """

    path: str
    args: list[str]
    name: str | None = None
    loader: str | None = None
    exec: bool = False


class RemoveRequest(msgspec.Struct):
    """Payload of module.remove. With `cancel` the module is not given time to finish: a process is ended."""

    name: str
    cancel: bool = False


class StatusRequest(msgspec.Struct):
    """Payload of module.status."""

    status: int
    errnum: int = 0


class DebugRequest(msgspec.Struct):
    """Payload of module.debug."""

    name: str
    defer: bool = False


class Modules(Service):
    """Serves the broker's modules."""

    def __init__(self, handle: Flux, broker: Broker) -> None:
        super().__init__(handle, broker)
        self._loading: dict[LoadedModule, Message] = {}
        self._removing: dict[LoadedModule, list[Message]] = {}
        self._traces: list[Trace] = []

    def stop_service(self) -> None:
        """Nobody will hear of what becomes of modules."""
        self.abandon(self._loading.values())
        self.abandon(request for requests in self._removing.values() for request in requests)
        self.abandon(trace.request for trace in self._traces)
        self._loading, self._removing, self._traces = {}, {}, []
        self._retrace()

    def _named(self, name: str) -> LoadedModule:
        module = self.broker.modules.get(cut(name))
        if module is None or module.internal:
            raise OSError(errno.ENOENT, None)
        return module

    # Loading and removing.

    @request_handler("load")
    def load(self, msg: Message) -> None:
        """Payload: `LoadRequest`; answered when the module runs."""
        request = decode(msg, LoadRequest)
        path = cut(request.path)
        name = cut(request.name) if request.name is not None else default_name(path)
        if name in self.broker.modules or name.encode("utf-8", "surrogateescape") in self.broker.router.services:
            raise OSError(errno.EEXIST, None)
        loader = None if request.loader is None else cut(request.loader)
        args = [cut(arg) for arg in request.args]

        def started(error: OSError | None) -> None:
            if error is None:
                self.answer(msg)
            else:
                self.handle.respond_error(msg, error.errno or errno.ECONNRESET, error.strerror)

        try:
            planned = plan(path, loader, request.exec, os.environ.get("FLUX_MODULE_PATH", ""))
            if not name or "." in name:
                raise OSError(errno.EINVAL, f"'{name}' cannot be the name of a module: use --name")
            if planned.factory is None:
                self._start(msg, name, planned, args)
                return
            sleeping = planned.sleeping and self._may_sleep(path, args)
            module = self.broker.load(
                name, planned.factory, planned.path, args=tuple(args), started=started, sleeping=sleeping
            )
        except OSError as exc:
            number = exc.errno or errno.ECONNRESET
            raise OSError(number, exc.strerror or os.strerror(number)) from None
        except Exception as exc:  # noqa: BLE001  # whatever the user's file raises must not end the broker
            import traceback  # for what should not happen

            for line in traceback.format_exception(exc):
                self.broker.log.write(LOG_ERR, f"{name}: {line.rstrip()}")
            raise OSError(errno.ECONNRESET, f"{type(exc).__name__}: {exc}") from None
        if not planned.builtin:
            # It has no `stop_service` to fail what it leaves unanswered: the router does.
            module.pending = {}
        self._retrace()

    def _may_sleep(self, name: str, args: list[str]) -> bool:
        """Whether a module has nothing to do until it is asked: arguments that a user gives are looked at at once."""
        return args == ARGUMENTS.get(name, []) and SLEEPING[name] not in self.broker.attributes.visible

    def _start(self, msg: Message, name: str, planned: Plan, args: list[str]) -> None:
        try:
            module = ProcessModule(
                self.broker, name, planned.path, list(planned.argv), planned.label, args, self._changed
            )
        except OSError as exc:
            raise OSError(exc.errno, f"loader ({planned.label}) cannot be started: {exc.strerror}") from None
        self.broker.modules[name] = module
        self._loading[module] = msg
        self._retrace()

    def _changed(self, module: ProcessModule) -> None:
        """A process says how it does, or has ended."""
        if module.status == STATUS_RUNNING and module in self._loading:
            self.answer(self._loading.pop(module))
        if module.exit_code is None:
            return
        request = self._loading.pop(module, None)
        if request is None:
            if module.failed:
                reason = module.end_text if module.errnum is None else os.strerror(module.errnum)
                self.broker.log.write(LOG_ERR, f"{module.name}: {reason}")
                self.broker.module_died(module)
        elif module.errnum is None:
            self.handle.respond_error(request, errno.EINVAL, module.end_text)
        elif module.errnum:
            self.handle.respond_error(request, module.errnum, os.strerror(module.errnum))
        else:
            self.answer(request)
        for removal in self._removing.pop(module, ()):
            self.answer(removal)

    @request_handler("remove")
    def remove(self, msg: Message) -> None:
        """Payload: `RemoveRequest`; answered when the module has ended."""
        request = decode(msg, RemoveRequest)
        module = self._named(request.name)
        if isinstance(module, ProcessModule):
            self._removing.setdefault(module, []).append(msg)
            module.leave(request.cancel)
            return

        assert isinstance(module, Module)
        removals = self._removing.setdefault(module, [])
        removals.append(msg)
        if len(removals) > 1:
            return

        def unload() -> None:
            # From the loop: the request may be the module's own, from one of its timers.
            if self.broker.modules.get(module.name) is module:
                self.broker.unload(module.name)
            for removal in self._removing.pop(module, ()):
                self.answer(removal)

        if request.cancel:
            self.broker.reactor.timer(0.0, 0.0, unload).start()
        else:
            module.finish(unload)

    @request_handler("status")
    def status(self, msg: Message) -> None:
        """Payload: `StatusRequest`, from a module's process."""
        try:
            request = decode(msg, StatusRequest)
            if not (STATUS_RUNNING <= request.status <= STATUS_EXITED and 0 <= request.errnum <= _MAX_ERRNO):
                raise OSError(errno.EPROTO, None)
        except OSError:
            raise OSError(errno.EPROTO, "error decoding module.status request") from None
        for module in list(self.broker.modules.values()):
            if isinstance(module, ProcessModule) and msg.routes == module.local_path:
                module.report(request.status, request.errnum)
        self.answer(msg)

    # Showing.

    @request_handler("list", allow_guest=True)
    def list_modules(self, msg: Message) -> None:
        """Answers `{"mods": [{"name", "path", "idle", "status", "services", "sendqueue", "recvqueue"}, ...]}`."""
        check_no_payload(msg)
        added: dict[Any, list[str]] = {}
        for name, endpoint in self.broker.router.services.items():
            added.setdefault(endpoint, []).append(name.decode("utf-8", "surrogateescape"))
        modules = [self.broker.modules[name] for name in sorted(self.broker.modules)]
        shown = [self._describe(module, added.get(module, [])) for module in modules if not module.internal]
        self.handle.respond(msg, {"mods": shown})

    def _describe(self, module: LoadedModule, services: list[str]) -> dict[str, Any]:
        return {
            "name": module.name,
            "path": module.path_name,
            "idle": max(0, int(self.broker.now - module.last_used)),
            "status": module.status,
            "services": [module.name, *sorted(name for name in services if name != module.name)],
            # What is for a module of this process is handed to it at once, and what a module sends is routed at once:
            # this is what is held back, or what a process does not read.
            "sendqueue": module.waiting,
            "recvqueue": 0,
        }

    @request_handler("debug")
    def debug(self, msg: Message) -> None:
        """Payload `{"name": s, "defer"?: b}`: holds back what is for a module, or lets it go."""
        request = decode(msg, DebugRequest)
        self._named(request.name).hold(request.defer)
        self.answer(msg)

    @request_handler("trace")
    def trace(self, msg: Message) -> None:
        """Payload: `TraceRequest`; a stream of the messages of modules, as `Trace.entry` tells of them."""
        require_streaming(msg)
        self._traces.append(Trace(msg, decode(msg, TraceRequest)))
        self._retrace()

    @request_handler("disconnect")
    def disconnect(self, msg: Message) -> None:
        """A client has gone: its traces end."""
        self._traces = [trace for trace in self._traces if not may_end(trace.request, msg)]
        self._retrace()

    def _retrace(self) -> None:
        """Has the modules that are traced show their messages."""
        for module in self.broker.modules.values():
            if not module.internal:
                traces = [trace for trace in self._traces if trace.concerns(module.name)]
                module.trace(self._tracer(module.name, traces) if traces else None)

    def _tracer(self, name: str, traces: list[Trace]) -> Tracer:
        def show(prefix: str, message: Message) -> None:
            for trace in traces:
                entry = trace.entry(prefix, name, message)
                if entry is not None:
                    self.handle.respond(trace.request, entry)

        return show
