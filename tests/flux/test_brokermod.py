"""flux.brokermod: broker modules in Python, run without a broker (spec 02, section 18).

The broker's side, `ffi` and `lib` of the module under test, and the handle are replaced: the way that users'
tests of their modules go.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest

import flux.brokermod
from flux.brokermod import BrokerLogger, BrokerModule, event_handler, request_handler, resolve_entry_point
from flux.constants import (
    FLUX_MSGTYPE_EVENT,
    FLUX_MSGTYPE_REQUEST,
    FLUX_ROLE_OWNER,
    FLUX_ROLE_USER,
)


@pytest.fixture(autouse=True)
def lib() -> Iterator[mock.Mock]:
    """The broker's side, for a module loaded as ``testmod``."""
    with mock.patch.object(flux.brokermod, "ffi") as ffi, mock.patch.object(flux.brokermod, "lib") as lib:
        ffi.string.return_value = b"testmod"
        lib.FLUX_ROLE_OWNER = FLUX_ROLE_OWNER
        lib.FLUX_ROLE_USER = FLUX_ROLE_USER
        yield lib


@pytest.fixture
def handle() -> mock.Mock:
    handle = mock.Mock()
    handle.reactor_run.return_value = 0
    return handle


def watchers(handle: mock.Mock) -> dict[tuple[int, str], Any]:
    """(message type, topic) to (callback, rolemask) of the watchers made."""
    return {call.args[1:]: (call.args[0], call.kwargs["rolemask"]) for call in handle.msg_watcher_create.call_args_list}


# --- decorators -------------------------------------------------------------------------------------------


def test_request_handler_marks_the_function_and_returns_it() -> None:
    def func(self: Any, msg: Any) -> None: ...

    assert request_handler("info", prefix=False, allow_guest=True)(func) is func
    assert func._flux_handler == {  # type: ignore[attr-defined]
        "msgtype": FLUX_MSGTYPE_REQUEST,
        "topic": "info",
        "prefix": False,
        "allow_guest": True,
    }


def test_event_handler_marks_the_function_and_returns_it() -> None:
    def func(self: Any, msg: Any) -> None: ...

    assert event_handler("panic")(func) is func
    assert func._flux_handler == {  # type: ignore[attr-defined]
        "msgtype": FLUX_MSGTYPE_EVENT,
        "topic": "panic",
        "prefix": True,
    }


# --- the module -------------------------------------------------------------------------------------------


def test_name_comes_from_the_broker(handle: mock.Mock, lib: mock.Mock) -> None:
    module = BrokerModule(handle, "a=1", "b")
    lib.flux_aux_get.assert_called_once_with(handle.handle, b"flux::name")
    assert (module.name, module.args, module.handle) == ("testmod", ("a=1", "b"), handle)
    assert isinstance(module.log, BrokerLogger)


def test_name_is_unknown_outside_of_a_broker(handle: mock.Mock) -> None:
    flux.brokermod.ffi.cast.return_value = flux.brokermod.ffi.NULL  # type: ignore[attr-defined]
    assert BrokerModule(handle).name == "unknown"


def test_handlers_are_registered_by_type_topic_and_role(handle: mock.Mock) -> None:
    class Module(BrokerModule):
        @request_handler("owner")
        def owner(self, msg: Any) -> None: ...

        @request_handler("guest", allow_guest=True)
        def guest(self, msg: Any) -> None: ...

        @request_handler("other.service", prefix=False)
        def other(self, msg: Any) -> None: ...

        @event_handler("tick")
        def tick(self, msg: Any) -> None: ...

        @event_handler("heartbeat.pulse", prefix=False)
        def pulse(self, msg: Any) -> None: ...

        def plain(self, msg: Any) -> None: ...

    Module(handle)
    assert {key: rolemask for key, (_, rolemask) in watchers(handle).items()} == {
        (FLUX_MSGTYPE_REQUEST, "testmod.owner"): None,
        (FLUX_MSGTYPE_REQUEST, "testmod.guest"): FLUX_ROLE_OWNER | FLUX_ROLE_USER,
        (FLUX_MSGTYPE_REQUEST, "other.service"): None,
        (FLUX_MSGTYPE_EVENT, "testmod.tick"): None,
        (FLUX_MSGTYPE_EVENT, "heartbeat.pulse"): None,
    }
    assert handle.msg_watcher_create.return_value.start.call_count == 5
    assert handle.event_subscribe.call_args_list == [mock.call("testmod.tick"), mock.call("heartbeat.pulse")]


def test_event_is_subscribed_before_its_watcher_is_made(handle: mock.Mock) -> None:
    class Module(BrokerModule):
        @event_handler("tick")
        def tick(self, msg: Any) -> None: ...

    Module(handle)
    assert [call[0] for call in handle.method_calls[:2]] == ["event_subscribe", "msg_watcher_create"]


def test_handler_is_called_with_the_message(handle: mock.Mock) -> None:
    seen = []

    class Module(BrokerModule):
        @request_handler("info")
        def info(self, msg: Any) -> None:
            seen.append((self, msg))

    module = Module(handle)
    callback, _ = watchers(handle)[FLUX_MSGTYPE_REQUEST, "testmod.info"]
    message = object()
    callback(handle, object(), message, None)
    assert seen == [(module, message)]


def test_nearest_definition_decides(handle: mock.Mock) -> None:
    called = []

    class Base(BrokerModule):
        @request_handler("inherited")
        def inherited(self, msg: Any) -> None:
            called.append("inherited")

        @request_handler("overridden")
        def overridden(self, msg: Any) -> None:
            called.append("base")

        @request_handler("old-topic")
        def redecorated(self, msg: Any) -> None: ...

    class Module(Base):
        def overridden(self, msg: Any) -> None:
            called.append("override")

        @request_handler("new-topic", allow_guest=True)
        def redecorated(self, msg: Any) -> None: ...

    Module(handle)
    found = watchers(handle)
    assert sorted(topic for _, topic in found) == [
        "testmod.inherited",
        "testmod.new-topic",
        "testmod.overridden",
    ]
    for topic in ("testmod.inherited", "testmod.overridden"):
        found[FLUX_MSGTYPE_REQUEST, topic][0](handle, None, None, None)
    assert called == ["inherited", "override"]


def test_coroutine_of_an_async_handler_is_given_to_the_watcher_which_runs_it(handle: mock.Mock) -> None:
    seen = []

    class Module(BrokerModule):
        @request_handler("slow")
        async def slow(self, msg: Any) -> None:
            seen.append(msg)

    Module(handle)
    callback, _ = watchers(handle)[FLUX_MSGTYPE_REQUEST, "testmod.slow"]
    coroutine = callback(object(), object(), "message", None)
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert seen == ["message"]


def test_set_running_tells_the_broker(handle: mock.Mock, lib: mock.Mock) -> None:
    lib.flux_module_set_running.return_value = 0
    BrokerModule(handle).set_running()
    lib.flux_module_set_running.assert_called_once_with(handle.handle)


def test_set_running_that_fails_is_an_oserror(handle: mock.Mock, lib: mock.Mock) -> None:
    lib.flux_module_set_running.return_value = -1
    with pytest.raises(OSError, match="could not tell the broker"):
        BrokerModule(handle).set_running()


@pytest.mark.parametrize(("answer", "wanted"), [(1, True), (0, False)])
def test_debug_test_asks_the_broker(handle: mock.Mock, lib: mock.Mock, answer: int, wanted: bool) -> None:
    lib.flux_module_debug_test.return_value = answer
    assert BrokerModule(handle).debug_test(4, clear=True) is wanted
    lib.flux_module_debug_test.assert_called_once_with(handle.handle, 4, True)


def test_run_stop_and_stop_error_are_the_reactors(handle: mock.Mock) -> None:
    module = BrokerModule(handle)
    module.run()
    module.stop()
    module.stop_error()
    assert [call[0] for call in handle.method_calls] == ["reactor_run", "reactor_stop", "reactor_stop_error"]


def test_run_that_ends_with_error_raises(handle: mock.Mock) -> None:
    handle.reactor_run.return_value = -1
    with pytest.raises(OSError, match=r"^reactor exited with error$"):
        BrokerModule(handle).run()


def test_exception_of_a_handler_comes_out_of_run(handle: mock.Mock) -> None:
    handle.reactor_run.side_effect = ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        BrokerModule(handle).run()


# --- the logger -------------------------------------------------------------------------------------------

METHODS = ["emerg", "alert", "critical", "error", "warning", "notice", "info", "debug"]


@pytest.mark.parametrize(("level", "method"), list(enumerate(METHODS)))
def test_logger_methods_log_at_their_level(handle: mock.Mock, level: int, method: str) -> None:
    getattr(BrokerLogger(handle), method)("text")
    handle.log.assert_called_once_with(level, "text")


@pytest.mark.parametrize(
    ("level", "number", "name"),
    [("info", 6, "info"), ("ERR", 3, "err"), (4, 4, "warning"), ("Emerg", 0, "emerg"), (42, 42, "42")],
)
def test_level_is_settable_by_number_or_name(handle: mock.Mock, level: int | str, number: int, name: str) -> None:
    log = BrokerLogger(handle)
    log.level = level
    assert (log.level, log.level_name) == (number, name)


def test_level_is_debug_at_first(handle: mock.Mock) -> None:
    assert (BrokerLogger(handle).level, BrokerLogger(handle).level_name) == (7, "debug")


def test_names_of_levels_are_those_of_syslog_in_order() -> None:
    assert list(BrokerLogger.LEVEL_NAMES) == [
        "emerg",
        "alert",
        "crit",
        "err",
        "warning",
        "notice",
        "info",
        "debug",
    ]


def test_what_is_less_severe_than_the_level_is_dropped(handle: mock.Mock) -> None:
    log = BrokerLogger(handle)
    log.level = "warning"
    for level in range(8):
        log(level, str(level))
    assert [call.args for call in handle.log.call_args_list] == [(n, str(n)) for n in range(5)]


@pytest.mark.parametrize(
    ("level", "message"),
    [
        ("verbose", "^invalid log level 'verbose': expected one of emerg, alert, crit, .*debug"),
        (None, "^invalid log level None"),
        ([], "^invalid log level"),
    ],
)
def test_other_levels_are_value_errors(handle: mock.Mock, level: Any, message: str) -> None:
    log = BrokerLogger(handle)
    with pytest.raises(ValueError, match=message):
        log.level = level
    assert log.level == 7


# --- the entry point --------------------------------------------------------------------------------------


class One(BrokerModule): ...


class Two(BrokerModule): ...


class DerivedFromOne(One): ...


def module_with(**names: Any) -> types.ModuleType:
    module = types.ModuleType("m")
    vars(module).update(names)
    return module


def test_mod_main_is_the_entry_point_whatever_else_there_is() -> None:
    def main(h: Any, *args: str) -> None: ...

    assert resolve_entry_point(module_with(mod_main=main, One=One, Two=Two)) is main


@pytest.mark.parametrize(
    "names",
    [
        {"One": One},
        {"BrokerModule": BrokerModule, "One": One, "alias": One, "number": 1},
    ],
)
def test_only_subclass_is_run(handle: mock.Mock, names: dict[str, Any]) -> None:
    seen = []
    with mock.patch.object(One, "run", lambda self: seen.append((self.handle, self.args))):
        resolve_entry_point(module_with(**names))(handle, "a", "b")
    assert seen == [(handle, ("a", "b"))]


def test_base_class_imported_for_the_module_does_not_count(handle: mock.Mock) -> None:
    with mock.patch.object(DerivedFromOne, "run") as run:
        resolve_entry_point(module_with(One=One, DerivedFromOne=DerivedFromOne))(handle)
    run.assert_called_once_with()


def test_file_without_entry_point_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"^no mod_main\(\) or BrokerModule subclass found$"):
        resolve_entry_point(module_with(BrokerModule=BrokerModule))


def test_several_subclasses_are_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"^multiple BrokerModule subclasses found \(One, Two\); define mod_main\(\)$"):
        resolve_entry_point(module_with(One=One, Two=Two))
