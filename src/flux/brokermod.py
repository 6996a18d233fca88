"""The base class of broker modules written in Python (spec 02, section 18).

    class Hello(BrokerModule):
        @request_handler("greet", allow_guest=True)
        def greet(self, msg):
            self.handle.respond(msg, {"text": f"hello from {self.name}"})

The module's file needs no more: `resolve_entry_point` finds the class. A handler may also be ``async def``;
it then runs beside the module's other handlers and may await Flux futures.

Rules that hold here:
- The broker's side of a module (its name, its state, its debug flags) is reached through `lib` and `ffi` of
  this file, looked up at each use: programs replace them here to run a module without a broker.
- The nearest definition decides: a method that overrides a decorated one is registered as the decorated one
  was, unless it is decorated itself.
"""

from __future__ import annotations

import syslog
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from flux.constants import FLUX_MSGTYPE_EVENT, FLUX_MSGTYPE_REQUEST, FLUX_ROLE_OWNER, FLUX_ROLE_USER
from flux.core.inner import ffi, lib

if TYPE_CHECKING:
    from flux.core.handle import Flux
    from flux.message import Message

HandlerT = TypeVar("HandlerT", bound=Callable[..., Any])


def request_handler(topic: str, prefix: bool = True, allow_guest: bool = False) -> Callable[[HandlerT], HandlerT]:
    """Makes a method ``(self, msg)`` the handler of requests.

    Args:
        topic: the topic; with `prefix` it is put after the module's name and a dot.
        prefix: False: `topic` is complete. Requests then come only if the module registers that service.
        allow_guest: accept requests of any user, not only of the instance owner.
    """

    def decorate(func: HandlerT) -> HandlerT:
        func._flux_handler = {  # type: ignore[attr-defined]
            "msgtype": FLUX_MSGTYPE_REQUEST,
            "topic": topic,
            "prefix": prefix,
            "allow_guest": allow_guest,
        }
        return func

    return decorate


def event_handler(topic: str, prefix: bool = True) -> Callable[[HandlerT], HandlerT]:
    """Makes a method ``(self, msg)`` the handler of an event, and subscribes the module to it.

    Args:
        topic: the topic; with `prefix` it is put after the module's name and a dot.
        prefix: False: `topic` is complete.
    """

    def decorate(func: HandlerT) -> HandlerT:
        func._flux_handler = {  # type: ignore[attr-defined]
            "msgtype": FLUX_MSGTYPE_EVENT,
            "topic": topic,
            "prefix": prefix,
        }
        return func

    return decorate


class BrokerLogger:
    """Logs to the broker, leaving out what is less severe than a threshold.

    Args:
        h: the handle whose `log` is used.
    """

    LEVEL_NAMES = {
        "emerg": syslog.LOG_EMERG,
        "alert": syslog.LOG_ALERT,
        "crit": syslog.LOG_CRIT,
        "err": syslog.LOG_ERR,
        "warning": syslog.LOG_WARNING,
        "notice": syslog.LOG_NOTICE,
        "info": syslog.LOG_INFO,
        "debug": syslog.LOG_DEBUG,
    }

    def __init__(self, h: Flux) -> None:
        self._handle = h
        self._level = syslog.LOG_DEBUG

    @property
    def level(self) -> int:
        """The threshold, a syslog priority (7, debug, at first); settable by number or name of any case.

        Setting raises ValueError for anything else.
        """
        return self._level

    @level.setter
    def level(self, value: int | str) -> None:
        if isinstance(value, str):
            number = self.LEVEL_NAMES.get(value.lower())
            if number is None:
                raise ValueError(f"invalid log level '{value}': expected one of {', '.join(self.LEVEL_NAMES)}")
            self._level = number
            return
        try:
            self._level = int(value)
        except TypeError as exc:
            raise ValueError(f"invalid log level {value!r}: expected a name or a number") from exc

    @property
    def level_name(self) -> str:
        """The threshold's name, or its number as text if it has none."""
        return next((name for name, level in self.LEVEL_NAMES.items() if level == self._level), str(self._level))

    def __call__(self, level: int, msg: str) -> None:
        """Logs `msg` at a syslog priority."""
        if level <= self._level:
            self._handle.log(level, msg)

    def debug(self, msg: str) -> None:
        """Logs at LOG_DEBUG."""
        self(syslog.LOG_DEBUG, msg)

    def info(self, msg: str) -> None:
        """Logs at LOG_INFO."""
        self(syslog.LOG_INFO, msg)

    def notice(self, msg: str) -> None:
        """Logs at LOG_NOTICE."""
        self(syslog.LOG_NOTICE, msg)

    def warning(self, msg: str) -> None:
        """Logs at LOG_WARNING."""
        self(syslog.LOG_WARNING, msg)

    def error(self, msg: str) -> None:
        """Logs at LOG_ERR."""
        self(syslog.LOG_ERR, msg)

    def critical(self, msg: str) -> None:
        """Logs at LOG_CRIT."""
        self(syslog.LOG_CRIT, msg)

    def alert(self, msg: str) -> None:
        """Logs at LOG_ALERT."""
        self(syslog.LOG_ALERT, msg)

    def emerg(self, msg: str) -> None:
        """Logs at LOG_EMERG."""
        self(syslog.LOG_EMERG, msg)


class BrokerModule:
    """A broker module. Construction registers its decorated methods; run() serves them.

    Args:
        h: the module's handle, as the broker gave it to the module.
        args: the module's arguments, words.

    `log` is the module's BrokerLogger.
    """

    def __init__(self, h: Flux, *args: str) -> None:
        self._handle = h
        self._args = args
        self.log = BrokerLogger(h)
        self._name = self._loaded_as(h)
        # Kept: a watcher that nobody refers to may be collected.
        self._watchers = [self._register(method, handler) for method, handler in self._handlers()]

    def _loaded_as(self, h: Flux) -> str:
        """The module's name, as the broker keeps it with the handle."""
        name = ffi.cast("char *", lib.flux_aux_get(h.handle, b"flux::name"))
        return "unknown" if name == ffi.NULL else ffi.string(name).decode()

    @property
    def handle(self) -> Flux:
        """The module's handle."""
        return self._handle

    @property
    def name(self) -> str:
        """The name the module was loaded under."""
        return self._name

    @property
    def args(self) -> tuple[str, ...]:
        """The module's arguments."""
        return self._args

    def set_running(self) -> None:
        """Tells the broker that the module is initialized; otherwise the first run of the reactor does.

        Raises:
            OSError: the broker could not be told.
        """
        if lib.flux_module_set_running(self._handle.handle) < 0:
            raise OSError(f"{self._name}: could not tell the broker that the module is running")

    def debug_test(self, flag: int, clear: bool = False) -> bool:
        """Whether a bit of the module's debug flags (RPC ``<name>.debug``) is set; `clear` clears it."""
        return bool(lib.flux_module_debug_test(self._handle.handle, flag, clear))

    def run(self) -> None:
        """Serves until stop(). An exception of a handler ends it and comes out of here.

        Raises:
            OSError: ended by stop_error(), or the reactor failed.
        """
        if self._handle.reactor_run() < 0:
            raise OSError("reactor exited with error")

    def stop(self) -> None:
        """Ends run() normally."""
        self._handle.reactor_stop()

    def stop_error(self) -> None:
        """Makes run() raise."""
        self._handle.reactor_stop_error()

    def _handlers(self) -> list[tuple[Callable[[Message], Any], dict[str, Any]]]:
        handlers: dict[str, dict[str, Any]] = {}
        for cls in type(self).__mro__:
            for name, member in vars(cls).items():
                handler = getattr(member, "_flux_handler", None)
                if handler is not None:
                    handlers.setdefault(name, handler)
        return [(getattr(self, name), handler) for name, handler in handlers.items()]

    def _register(self, method: Callable[[Message], Any], handler: dict[str, Any]) -> Any:
        topic = f"{self._name}.{handler['topic']}" if handler["prefix"] else handler["topic"]
        if handler["msgtype"] == FLUX_MSGTYPE_EVENT:
            self._handle.event_subscribe(topic)
        rolemask = FLUX_ROLE_OWNER | FLUX_ROLE_USER if handler.get("allow_guest") else None
        watcher = self._handle.msg_watcher_create(self._callback(method), handler["msgtype"], topic, rolemask=rolemask)
        watcher.start()
        return watcher

    def _callback(self, method: Callable[[Message], Any]) -> Callable[[Flux, Any, Message, Any], Any]:
        def call(handle: Flux, watcher: Any, message: Message, args: Any) -> Any:
            return method(message)  # the coroutine of an async method is for the watcher to run

        return call


def resolve_entry_point(mod: ModuleType) -> Callable[..., Any]:
    """What the broker calls to run a loaded Python file, as ``entry(h, *args)``.

    That is its ``mod_main``, or else a function that runs its BrokerModule subclass. Of a class and those
    it is derived from only the most derived counts: a file may import the base class of its module.

    Raises:
        ValueError: there is neither, or several classes to choose from.
    """
    main: Callable[..., Any] | None = getattr(mod, "mod_main", None)
    return _runner(module_class(mod)) if main is None else main


def module_class(mod: ModuleType) -> type[BrokerModule]:
    """The BrokerModule subclass of a loaded Python file, as `resolve_entry_point` finds it. Raises ValueError."""
    found = {
        member: None  # a dict, as an ordered set
        for member in vars(mod).values()
        if isinstance(member, type) and issubclass(member, BrokerModule) and member is not BrokerModule
    }
    classes = [cls for cls in found if not any(cls in other.__mro__[1:] for other in found)]
    if not classes:
        raise ValueError("no mod_main() or BrokerModule subclass found")
    if len(classes) > 1:
        names = ", ".join(cls.__name__ for cls in classes)
        raise ValueError(f"multiple BrokerModule subclasses found ({names}); define mod_main()")
    return classes[0]


def _runner(cls: type[BrokerModule]) -> Callable[..., None]:
    def mod_main(h: Flux, *args: str) -> None:
        cls(h, *args).run()

    return mod_main
