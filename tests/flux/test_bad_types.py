"""Arguments of wrong types, to everything that programs call: an error that says so, at once, and nothing is the worse.

Every function is in a table with arguments that it takes. Each of them is replaced by each of `WRONG` in turn; some
of those the function takes as well. Whatever it does, a ping is answered afterwards (spec 02, 0.2).
"""

from __future__ import annotations

import asyncio
import inspect
import re
import signal
from collections.abc import Awaitable, Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

import pytest

import flux
import flux.aio
from flux.constants import (
    FLUX_MSGTYPE_REQUEST,
    FLUX_O_NONBLOCK,
    FLUX_O_TEST_NOSUB,
    FLUX_POLLIN,
    FLUX_REACTOR_NOWAIT,
)
from flux.core import dynamic, kinds
from flux.core.flux_t import FluxT
from flux.core.inner import ffi, lib, raw
from flux.core.kinds import FUNCTIONS, Kind
from flux.core.kvs_dir import DirCursor, DirState
from flux.core.kvs_txn import Txn
from flux.core.watchers import (
    CheckWatcher,
    FDWatcher,
    IdleWatcher,
    PrepareWatcher,
    SignalWatcher,
    TimerWatcher,
    Watcher,
)
from flux.future import Future, FutureExt, WaitAllFuture
from flux.message import Message, MessageWatcher, msg_typestr
from flux.reactor import Reactor
from flux.rpc import RPC
from flux.wrapper import MissingFunctionError

WRONG: list[Any] = [
    None,
    True,
    -1,
    1,
    1 << 70,
    2.5,
    float("nan"),
    "text",
    "",
    "\ud800",
    b"bytes",
    b"",
    object(),
    ["x"],
    {"x": 1},
]

#: Errors that say what is wrong: InvalidArguments and WrongNumArguments are ValueErrors.
SAID = (TypeError, ValueError, OSError, OverflowError, MissingFunctionError)

#: Texts that come from the inside of an implementation that has tried to do something with what it was given.
INSIDE = re.compile(
    r"unsupported operand|not supported between|has no len|has no attribute|not subscriptable|not iterable|can't concat"
    r"|has no '|NoneType' object|bytes-like|cannot be interpreted|required argument"
    r"|positional argument|unpack|item assignment|not callable"
)

_PATIENCE = 60.0


def nothing(*args: Any, **kwargs: Any) -> None:
    """A callback."""


@pytest.fixture(autouse=True)
def _patience() -> Iterator[None]:
    """Ends what does not come back."""

    def give_up(signum: int, frame: FrameType | None) -> NoReturn:
        raise AssertionError("the call does not come back")

    old = signal.signal(signal.SIGALRM, give_up)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)


@pytest.fixture(scope="module")
def handle(instance_uri: str) -> Iterator[flux.Flux]:
    """A connection to an instance, for all tests: it has to survive them."""
    with flux.Flux(instance_uri) as opened:
        yield opened


def request() -> Message:
    """A request that can be answered."""
    return Message.request(b"a.b", b"{}\0")


# The tables of functions are loaded when they are first needed.
dynamic.find("flux_open")

#: What is called, given a handle; and the arguments that it takes.
Case = tuple[Callable[..., Any], list[Any]]

FLUX: dict[str, list[Any]] = {
    "add_watcher": [object()],
    "del_watcher": [object()],
    "msg_watcher_create": [nothing, FLUX_MSGTYPE_REQUEST, "a.*", None, 0, 0],
    "timer_watcher_create": [0.1, nothing, 0.1, None],
    "prepare_watcher_create": [nothing],
    "check_watcher_create": [nothing],
    "idle_watcher_create": [nothing],
    "signal_watcher_create": [signal.SIGUSR1, nothing],
    "fd_watcher_create": [0, nothing, FLUX_POLLIN],
    "get_size": [ffi.new("uint32_t [1]")],
    "attr_get": ["rank"],
    "attr_set": ["test.bad-types", "1"],
    "attr_remove": ["test.bad-types"],
    "conf_get": ["a.b", None, False],
    "log": [7, "text"],
    "log_set_appname": ["test"],
    "send": [Message.request(b"broker.nosuch", flags=4), 0],
    "recv": [15, 0, "*", FLUX_O_NONBLOCK],
    "respond": [request(), {}],
    "respond_error": [request(), 2, "text"],
    "rpc": ["broker.ping", {}, 0, 0],
    "rpc_send": ["broker.ping", {}, 0, 0],
    "rpc_create": ["broker.ping", {}, 0, 0],
    "event_create": ["a.b", {}],
    "event_send": ["a.b", {}],
    "event_subscribe": ["bad-types"],
    "event_unsubscribe": ["bad-types"],
    "service_register": ["bad-types"],
    "service_unregister": ["bad-types"],
    "barrier": ["bad-types", 1],
    "barrier_async": ["bad-types", 1],
    "reactor_run": [None, FLUX_REACTOR_NOWAIT],
    "reactor_stop": [None],
    "reactor_stop_error": [None],
}


def attempt(function: Callable[..., Any], good: list[Any], place: int, value: Any) -> str | None:
    """Calls a function with a wrong argument; what is to be said against the error that it raises, or None."""
    args = [*good]
    args[place] = value
    call = f"{getattr(function, '__qualname__', function)}({', '.join(map(repr, args))})"
    signal.setitimer(signal.ITIMER_REAL, _PATIENCE)
    try:
        result = function(*args)
        if isinstance(result, Watcher):
            result.destroy()
    except SAID as exc:
        if INSIDE.search(str(exc)) or not str(exc):
            return f"{call} raises {type(exc).__name__}: {exc}"
    except Exception as exc:  # noqa: BLE001  # that it is none of those is what is tested
        return f"{call} raises {type(exc).__name__}: {exc}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return None


def attempts(function: Callable[..., Any], good: list[Any]) -> list[str]:
    """What is to be said against a function, every argument replaced by everything."""
    found = [attempt(function, good, place, value) for place in range(len(good)) for value in WRONG]
    return [text for text in found if text is not None]


def ping(handle: flux.Flux) -> None:
    """Asserts that a handle works."""
    assert handle.rpc("broker.ping", {"seq": 1}).wait_for(_PATIENCE).get()["seq"] == 1


@pytest.mark.parametrize("name", FLUX)
def test_methods_of_a_handle(handle: flux.Flux, name: str) -> None:
    assert attempts(getattr(handle, name), FLUX[name]) == []
    ping(handle)


def test_the_table_has_every_method_of_a_handle() -> None:
    public = {
        name
        for name, member in vars(flux.Flux).items()
        if inspect.isfunction(member) and not name.startswith("_") and len(inspect.signature(member).parameters) > 1
    }
    # It waits, and `recv` does the rest of it.
    assert public - {"event_recv"} == set(FLUX)


CONSTRUCTORS: dict[str, Callable[[flux.Flux], Case]] = {
    "Flux": lambda handle: (flux.Flux, ["loop://", 0, None]),
    "Message": lambda handle: (Message, [FLUX_MSGTYPE_REQUEST, None]),
    "Message.from_event_encode": lambda handle: (Message.from_event_encode, ["a", {}]),
    "msg_typestr": lambda handle: (msg_typestr, [1]),
    "MessageWatcher": lambda handle: (MessageWatcher, [handle, 1, nothing, "*", 0, 0, None]),
    "TimerWatcher": lambda handle: (TimerWatcher, [handle, 0.1, nothing, 0.1, None]),
    "FDWatcher": lambda handle: (FDWatcher, [handle, 0, FLUX_POLLIN, nothing]),
    "SignalWatcher": lambda handle: (SignalWatcher, [handle, signal.SIGUSR1, nothing]),
    "PrepareWatcher": lambda handle: (PrepareWatcher, [handle, nothing]),
    "CheckWatcher": lambda handle: (CheckWatcher, [handle, nothing]),
    "IdleWatcher": lambda handle: (IdleWatcher, [handle, nothing]),
    "Watcher": lambda handle: (Watcher, [handle]),
    "Future": lambda handle: (Future, [handle.rpc("broker.ping", {})]),
    "FutureExt": lambda handle: (lambda init, on: FutureExt(init, flux_handle=on), [nothing, handle]),
    "WaitAllFuture": lambda handle: (WaitAllFuture, [[]]),
    "RPC": lambda handle: (RPC, [handle, "broker.ping", {}, 0, 0]),
}


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_constructors(handle: flux.Flux, name: str) -> None:
    function, good = CONSTRUCTORS[name](handle)
    assert attempts(function, good) == []
    ping(handle)


FUTURES: dict[str, Callable[[flux.Flux], Case]] = {
    "wait_for": lambda handle: (handle.rpc("broker.ping", {}).wait_for, [1.0]),
    "then": lambda handle: (lambda callback, timeout: _then(handle, callback, timeout), [nothing, -1.0]),
    "fulfill_error": lambda handle: (FutureExt(nothing, flux_handle=handle).fulfill_error, [2, "text"]),
    "fulfill": lambda handle: (FutureExt(nothing, flux_handle=handle).fulfill, [{}]),
    "set_flux": lambda handle: (FutureExt(nothing).set_flux, [handle]),
    "push": lambda handle: (WaitAllFuture().push, [FutureExt(nothing), "name"]),
    "cancel": lambda handle: (handle.rpc("log.dmesg", {"follow": True}, flags=2).cancel, ["log.cancel"]),
    "handle": lambda handle: (lambda value: setattr(FutureExt(nothing), "handle", value), [None]),
}


def _then(handle: flux.Flux, callback: Any, timeout: Any) -> None:
    future = handle.rpc("broker.ping", {})
    future.then(callback, timeout=timeout)
    future.stop()
    future.wait_for(_PATIENCE)


@pytest.mark.parametrize("name", FUTURES)
def test_methods_of_futures(handle: flux.Flux, name: str) -> None:
    function, good = FUTURES[name](handle)
    assert attempts(function, good) == []
    ping(handle)


@pytest.mark.parametrize("name", ["type", "topic", "payload_str", "payload", "userid", "rolemask", "handle"])
def test_properties_of_messages(name: str) -> None:
    def assign(value: Any) -> None:
        message = request()
        if name != "handle":
            setattr(message, name, value)
        message.payload_str, message.topic, message.userid, message.rolemask, repr(message)

    assert attempts(assign, [1]) == []


@pytest.mark.parametrize("name", ["after", "repeat"])
def test_timers_that_are_set_again(handle: flux.Flux, name: str) -> None:
    timer = TimerWatcher(handle, 1.0, nothing)
    assert attempts(lambda value: timer.reset(**{name: value}), [1.0]) == []
    timer.destroy()


def test_handles_that_are_assigned(instance_uri: str) -> None:
    def assign(value: Any) -> None:
        with flux.Flux(instance_uri) as other:
            other.handle = value
            if value is not None:
                ping(other)

    assert attempts(assign, [None]) == []


# Dynamic names: the functions of the library, through every object that they can be reached by.

#: A good argument of each kind, made anew for each call: some functions are there to destroy what they are given.
GOOD: dict[Kind, Callable[[], Any]] = {
    kinds.HANDLE: lambda: FluxT.incref(LOOP.core),
    kinds.FUTURE: lambda: answered(LOOP.rpc("a.b", {})).handle,
    kinds.MESSAGE: request,
    kinds.REACTOR: Reactor,
    kinds.HANDLER: lambda: LOOP.msg_watcher_create(nothing).handle,
    kinds.TXN: Txn,
    kinds.KVSDIR: lambda: DirState(LOOP.core, "a", {"b": {"data": "", "type": "val", "ver": 1}}),
    kinds.KVSITR: lambda: DirCursor(GOOD[kinds.KVSDIR]()),
    kinds.OWNER: lambda: 1,
    kinds.TEXT: lambda: "a.b",
    kinds.INT: lambda: 4,
    kinds.UINT32: lambda: 1,
    kinds.UINT64: lambda: 1,
    kinds.DOUBLE: lambda: 0.0,
    kinds.BOOL: lambda: True,
    kinds.MATCH: lambda: (2, 1, "a.b"),
    kinds.OUT: lambda: ffi.new("int [8]"),
    kinds.POINTER: lambda: ffi.NULL,
    kinds.CALLBACK: lambda: nothing,
}


def answered(future: Future) -> Future:
    """A future that nobody has to wait for: to wait for one without end is no mistake."""
    future.fulfill_error(5)
    return future


#: A handle that hears what it says, while the tests of this file run.
LOOP: flux.Flux


@pytest.fixture(scope="module", autouse=True)
def _loop() -> Iterator[None]:
    global LOOP
    with flux.Flux("loop://", FLUX_O_TEST_NOSUB) as LOOP:
        yield
    del LOOP


#: The objects through which a function can be called that is about one, by the kind of its first parameter.
OWNERS: dict[Kind, dict[str, Callable[[], Any]]] = {
    kinds.HANDLE: {"Flux": lambda: flux.Flux("loop://", FLUX_O_TEST_NOSUB)},
    kinds.MESSAGE: {"Message.pimpl": lambda: request().pimpl},
    kinds.FUTURE: {
        "Future.pimpl": lambda: answered(FutureExt(nothing, flux_handle=LOOP)).pimpl,
        "RPC.pimpl": lambda: answered(LOOP.rpc("a.b", {})).pimpl,
    },
}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_functions_of_the_library(name: str) -> None:
    if name.startswith("flux_job_id_parse"):
        pytest.importorskip("flux.job")
    kinds_of_args = FUNCTIONS[name].type.args
    problems = []

    def try_all(reach: Callable[[], Any], taken: tuple[Kind, ...]) -> None:
        def call(*args: Any) -> Any:
            return getattr(reach(), name)(*args)

        call.__qualname__ = name
        for place in range(len(taken)):
            for value in WRONG:
                problems.append(attempt(call, [GOOD[kind]() for kind in taken], place, value))
        for value in (None, object()):
            problems.append(attempt(call, [value] * (len(taken) + 1), 0, value))

    try_all(lambda: raw, kinds_of_args)
    try_all(lambda: lib, kinds_of_args)
    for reach in OWNERS.get(kinds_of_args[0], {}).values() if kinds_of_args else ():
        try_all(reach, kinds_of_args[1:])
    assert [problem for problem in problems if problem is not None] == []
    assert LOOP.send(request()) == 0


# asyncio.

ASYNC: dict[str, list[Any]] = {
    "rpc": ["broker.ping", {}, 0],
    "send": ["broker.ping", {}, 0],
    "stream": ["broker.ping", {}, 0, "broker.cancel"],
    "subscribe": ["bad-types"],
    "publish": ["bad-types", {}],
    "publish_sync": ["bad-types", {}, False],
    "service": ["bad-types"],
    "attr_get": ["rank"],
    "attr_set": ["test.bad-types", "1"],
    "log": [7, "text"],
    "barrier": ["bad-types", 1],
}


@pytest.mark.parametrize("name", ASYNC)
def test_methods_of_an_asynchronous_handle(instance_uri: str, name: str) -> None:
    async def use(result: Any) -> None:
        if isinstance(result, Awaitable):
            await result
        elif result is not None:
            async with result:
                pass

    async def main() -> list[str]:
        problems = []
        async with flux.aio.connect(instance_uri) as handle:
            for place in range(len(ASYNC[name])):
                for value in WRONG:
                    args = [*ASYNC[name]]
                    args[place] = value
                    call = f"{name}({', '.join(map(repr, args))})"
                    try:
                        async with asyncio.timeout(_PATIENCE):
                            await use(getattr(handle, name)(*args))
                    except TimeoutError:
                        problems.append(f"{call} does not come back")
                    except SAID as exc:
                        if INSIDE.search(str(exc)) or not str(exc):
                            problems.append(f"{call} raises {type(exc).__name__}: {exc}")
                    except Exception as exc:  # noqa: BLE001  # that it is none of those is what is tested
                        problems.append(f"{call} raises {type(exc).__name__}: {exc}")
            assert (await handle.rpc("broker.ping", {"seq": 1}))["seq"] == 1
        return problems

    assert asyncio.run(main()) == []
