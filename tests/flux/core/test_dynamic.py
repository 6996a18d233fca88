"""Dynamic names: C functions as attributes of handles, futures and `raw`, and `lib` (spec 02, section 9)."""

from __future__ import annotations

import base64
import errno
import json
import sys
import types
from typing import Any

import pytest

import flux
from flux.constants import (
    FLUX_JOB_WAITABLE,
    FLUX_MSGFLAG_PRIVATE,
    FLUX_MSGTYPE_EVENT,
    FLUX_NODEID_ANY,
    FLUX_O_NONBLOCK,
    FLUX_O_RPCTRACK,
    FLUX_O_TEST_NOSUB,
    FLUX_RQ_HEAD,
    FLUX_RQ_TAIL,
)
from flux.core.dispatch import Match
from flux.core.flux_t import FluxT
from flux.core.future_state import FutureState
from flux.core.inner import ffi, lib, raw
from flux.core.trampoline import mod_main_trampoline
from flux.future import Future, WaitAllFuture
from flux.message import Message
from flux.wrapper import InvalidArguments, MissingFunctionError, WrongNumArguments

# Every name of api.json's `dynamic`, with its number of arguments.
HANDLE = """event_unsubscribe:1 respond_error:3 get_reactor:0 flux_attr_get:1 flux_event_subscribe:1
    flux_event_unsubscribe:1 flux_reactor_run:2 flux_reactor_stop:1 flux_reactor_stop_error:1 get_size:1
    flux_get_size:1 flux_get_rank:1 get_instance_starttime:1 flux_set_reactor:1 set_reactor:1 incref:0
    decref:0 future_create:2 future_get:2 request_encode:2 flux_send:2 flux_recv:2 flux_respond:2
    flux_rpc:4 flux_log:2 flux_service_register:1 flux_service_unregister:1 event_publish:3
    event_subscribe_ex:2 event_unsubscribe_ex:2 get_hostbyrank:1 get_rankbyhost:1 strerror:1
    flux_strerror:1 flags_get:0 flags_set:1 flags_unset:1 pollfd:0 pollevents:0 reactor_now:1 requeue:2
    reconnect:0 clone:0 matchtag_alloc:0 matchtag_free:1 matchtag_avail:0 msg_handler_allow_rolemask:2
    log_error:1 log_set_appname:1 log_set_procid:1 log_set_hostname:1 sync_create:1 job_submit:3"""
MESSAGE = """get_type:1 set_type:1 get_topic:1 set_topic:1 get_string:1 set_string:1 get_userid:1
    set_userid:1 get_rolemask:1 set_rolemask:1 get_nodeid:1 set_nodeid:1 get_matchtag:1 set_matchtag:1
    get_errnum:1 set_errnum:1 get_seq:1 set_seq:1 has_payload:0 is_streaming:0 is_noresponse:0
    is_private:0 is_local:0 set_streaming:0 set_noresponse:0 set_private:0 has_flag:1 set_flag:1
    clear_flag:1 route_enable:0 route_disable:0 route_clear:0 route_count:0 route_push:1 route_first:0
    route_last:0 route_string:0 copy:1 last_error:0 encode_size:0"""
FUTURE = """fulfill:2 fulfill_error:2 fatal_error:2 reset:0 is_ready:0 has_error:0 get_flux:0 set_flux:1
    get_reactor:0 set_reactor:1 wait_for:1 then:3 error_string:0 incref:0 decref:0 push:2 get_child:1
    fulfill_with:1"""
RPC = "get_matchtag:0 get_nodeid:0 flux_rpc_get:1 is_ready:0"
RAW = """flux_log:3 flux_rpc:5 flux_strerror:1 flux_msg_typestr:1 flux_job_statetostr:2
    flux_job_resulttostr:2 flux_job_strtostate:2 flux_job_strtoresult:2 flux_job_id_parse:2
    flux_conf_builtin_get:2 flux_core_version_string:0 flux_core_version:3 flux_open:2 flux_close:1
    flux_get_reactor:1 flux_future_destroy:1 flux_event_publish_get_seq:2 flux_request_encode:2
    flux_event_encode:2"""
LIB = """flux_get_reactor:1 flux_reactor_now:1 flux_respond_error:4 flux_module_set_running:1
    flux_module_debug_test:3 flux_aux_get:2 flux_job_kvs_key:4 flux_job_raise:5"""

TOO_MANY = (None,) * 12


@pytest.fixture
def handle() -> Any:
    return flux.Flux("loop://", flags=FLUX_O_TEST_NOSUB)


def subject(kind: str) -> Any:
    handle = flux.Flux("loop://", flags=FLUX_O_TEST_NOSUB)
    return {
        "handle": handle,
        "message": Message().pimpl,
        "future": Future(FutureState()).pimpl,
        "rpc": handle.rpc("x.y").pimpl,
        "raw": raw,
        "lib": lib,
    }[kind]


def names() -> list[Any]:
    texts = {"handle": HANDLE, "message": MESSAGE, "future": FUTURE, "rpc": RPC, "raw": RAW, "lib": LIB}
    return [
        pytest.param(kind, *entry.split(":"), id=f"{kind}.{entry}")
        for kind, text in texts.items()
        for entry in text.split()
    ]


@pytest.mark.parametrize(("kind", "name", "count"), names())
def test_name_is_a_function_of_that_many_arguments(kind: str, name: str, count: str) -> None:
    function = getattr(subject(kind), name)
    # Python methods of the class, and `lib`, refuse as Python does.
    with pytest.raises((WrongNumArguments, TypeError)) as caught:
        function(*TOO_MANY)
    if isinstance(caught.value, WrongNumArguments):
        implied = int(str(caught.value).partition("received ")[2].split()[0]) - len(TOO_MANY)
        assert f"Expected {int(count) + implied} arguments" in str(caught.value)


def outcome(function: Any, *args: Any) -> Any:
    try:
        return function(*args)
    except OSError as exc:
        name = errno.errorcode[exc.errno or 0]
        # Shape A, whatever failed.
        return name if str(exc.strerror).startswith(f"{name}: ") else str(exc)
    except (ValueError, OverflowError, TypeError) as exc:
        return type(exc).__name__


# Arguments.


def test_argument_kinds(handle: Any) -> None:
    null, message = ffi.NULL, Message()
    cases: list[tuple[Any, tuple[Any, ...], Any]] = [
        (handle.flux_attr_get, ("size",), b"1"),
        (handle.flux_attr_get, (b"size",), b"1"),
        (handle.flux_attr_get, (ffi.new("char[]", b"size"),), b"1"),
        (handle.flux_attr_get, (None,), "EINVAL"),
        (handle.flux_attr_get, (null,), "EINVAL"),
        (handle.flux_attr_get, (5,), "InvalidArguments"),
        (handle.flux_attr_get, ("nosuch",), "ENOENT"),
        (handle.flux_send, (None, 0), "EINVAL"),
        (handle.flux_send, (null, 0), "EINVAL"),
        (handle.flux_send, ("x", 0), "InvalidArguments"),
        (handle.flux_send, (handle, 0), "InvalidArguments"),
        (handle.flux_send, (message, 99), "EINVAL"),
        (handle.flux_send, (message, 1 << 31), "OverflowError"),
        (handle.flux_send, (message, "0"), "InvalidArguments"),
        (handle.flux_send, (message, None), "InvalidArguments"),
        (handle.flux_rpc, ("x", None, -1, 0), "OverflowError"),
        (handle.flux_rpc, ("x", None, 1 << 32, 0), "OverflowError"),
        (handle.flux_rpc, (None, None, 0, 0), "EINVAL"),
        (handle.flux_rpc, ("x", None, 0, 99), "EINVAL"),
        (handle.flux_get_size, (3,), "InvalidArguments"),
        (handle.flux_set_reactor, (handle,), "InvalidArguments"),
        (handle.flux_reactor_run, (None, 0), "EINVAL"),
        (raw.flux_log, (None, 6, "text"), "EINVAL"),
    ]
    for function, arguments, wanted in cases:
        assert outcome(function, *arguments) == wanted, (function, arguments)


def test_names_are_tried_bare_and_with_prefixes(handle: Any) -> None:
    assert handle.NODEID_ANY == handle.FLUX_NODEID_ANY == raw.FLUX_NODEID_ANY == FLUX_NODEID_ANY
    assert lib.FLUX_MSGTYPE_EVENT == FLUX_MSGTYPE_EVENT
    assert handle.strerror(2) == handle.flux_strerror(2) == b"No such file or directory"
    assert callable(handle.no_such)
    assert hasattr(handle, "no_such")
    assert not hasattr(handle, "__no_such__")
    assert not hasattr(lib, "no_such")
    with pytest.raises(MissingFunctionError):
        handle.no_such(1)


def test_functions_without_parameters_work_through_a_handle(handle: Any) -> None:
    assert handle.core_version_string() == raw.flux_core_version_string() == b"0.88.0"
    assert isinstance(handle.reactor_time(), float)


# Handles.


def test_numbers_come_by_out_parameter_or_as_result(handle: Any) -> None:
    for function, wanted in ((handle.flux_get_size, 1), (handle.flux_get_rank, 0), (handle.get_size, 1)):
        out = ffi.new("uint32_t [1]", [77])
        assert function(out) == 0
        assert out[0] == wanted
        assert function() == wanted


def test_reference_counting_closes_with_the_last_owner(handle: Any) -> None:
    opaque = handle.incref()
    assert opaque is handle.handle
    other = flux.Flux(handle=opaque)
    handle.handle = None
    assert other.get_rank() == 0
    assert not opaque.link.closed
    del other
    assert opaque.link.closed


def test_clone_and_close_of_opaque_handles(handle: Any) -> None:
    handle.event_send("a.b")
    clone = handle.clone()
    assert isinstance(clone, FluxT)
    assert raw.flux_recv(clone, Match(), 0).topic == "a.b"
    assert raw.flux_close(clone) is None
    opened = raw.flux_open("loop://", FLUX_O_TEST_NOSUB)
    assert raw.flux_attr_get(opened, "rank") == b"0"
    raw.flux_close(opened)
    assert outcome(raw.flux_open, "loop://", 1 << 20) == "EINVAL"


def test_flags(handle: Any) -> None:
    handle.flags_set(FLUX_O_NONBLOCK | FLUX_O_RPCTRACK)
    assert handle.flags_get() == FLUX_O_TEST_NOSUB | FLUX_O_NONBLOCK
    handle.flags_unset(FLUX_O_NONBLOCK)
    assert handle.flags_get() == FLUX_O_TEST_NOSUB


def test_reactor_is_shared_before_it_is_made(handle: Any) -> None:
    reactor = handle.get_reactor()
    other: Any = flux.Flux("loop://", flags=FLUX_O_TEST_NOSUB)
    assert other.set_reactor(reactor) == 0
    assert other.get_reactor() is reactor
    assert outcome(other.flux_set_reactor, reactor) == "EEXIST"


def test_bare_reactor_run(handle: Any) -> None:
    reactor = handle.get_reactor()
    assert handle.flux_reactor_run(reactor, 0) == 0
    timer = handle.timer_watcher_create(0, lambda *_: handle.flux_reactor_stop_error(reactor), repeat=1000.0)
    timer.start()
    assert handle.flux_reactor_run(reactor, 0) == -1
    timer.destroy()
    timer = handle.timer_watcher_create(0, lambda *_: handle.flux_reactor_stop(reactor), repeat=1000.0)
    timer.start()
    assert handle.flux_reactor_run(reactor, 0) == 1
    assert outcome(handle.flux_reactor_run, reactor, 99) == "EINVAL"
    assert handle.reactor_now(reactor) > 1e9


def test_send_requeue_recv(handle: Any) -> None:
    for topic in ("a", "b", "c"):
        assert handle.flux_send(handle.request_encode(topic, None), 0) == 0
    first = handle.flux_recv((0, 0, None), 0)
    assert handle.requeue(first, FLUX_RQ_TAIL) == 0
    second = handle.flux_recv({"topic_glob": "b"}, 0)
    assert handle.requeue(second, FLUX_RQ_HEAD) == 0
    assert [handle.recv().topic for _ in range(3)] == ["b", "a", "c"]
    assert outcome(handle.requeue, first, 3) == "EINVAL"
    assert outcome(handle.flux_recv, (0,), FLUX_O_NONBLOCK) == "EAGAIN"
    assert outcome(handle.flux_recv, "x", 0) == "InvalidArguments"
    assert outcome(handle.flux_recv, (0,), 99) == "EINVAL"


def test_matchtags_are_the_lowest_free(handle: Any) -> None:
    assert handle.matchtag_avail() == 1023
    tags = [handle.matchtag_alloc() for _ in range(3)]
    assert tags == [1, 2, 3]
    handle.matchtag_free(2)
    assert handle.matchtag_avail() == 1021
    assert handle.matchtag_alloc() == 2


def test_responses(handle: Any) -> None:
    request = handle.request_encode("x.y", "{}")
    assert handle.flux_respond(request, '{"a":1}') == 0
    assert handle.recv().payload == {"a": 1}
    assert handle.respond_error(request, errno.EPERM, "no") == 0
    answer = handle.recv()
    assert answer.payload_str == "no"
    assert outcome(answer.decode) == "EPERM"
    assert raw.flux_respond_error(handle, request, 0) == 0  # the text may be left out; errno 0 is none
    assert outcome(handle.recv().decode) == "EINVAL"
    request.pimpl.set_noresponse()
    assert (handle.flux_respond(request, None), raw.flux_respond_error(handle, request, 1, None)) == (0, 0)
    assert outcome(handle.recv) == "EAGAIN"


@pytest.mark.parametrize(
    ("call", "topic", "nodeid", "payload"),
    [
        (lambda h: h.flux_service_register("svc"), "service.add", FLUX_NODEID_ANY, {"service": "svc"}),
        (lambda h: h.flux_service_unregister(b"svc"), "service.remove", FLUX_NODEID_ANY, {"service": "svc"}),
        (
            lambda h: h.event_publish("t", FLUX_MSGFLAG_PRIVATE, '{"a":1}'),
            "event.publish",
            0,
            {"topic": "t", "flags": 32, "payload": base64.b64encode(b'{"a":1}\0').decode()},
        ),
        (lambda h: h.event_publish("t", 0, None), "event.publish", 0, {"topic": "t", "flags": 0}),
        (
            lambda h: lib.flux_job_raise(h.handle, 2**64 - 1, b"cancel", 0, b"why"),
            "job-manager.raise",
            FLUX_NODEID_ANY,
            {"id": -1, "severity": 0, "type": "cancel", "note": "why"},
        ),
        (
            lambda h: h.job_submit("J.J.none", 16, FLUX_JOB_WAITABLE | 1),
            "job-ingest.submit",
            FLUX_NODEID_ANY,
            {"J": "J.J.none", "urgency": 16, "flags": FLUX_JOB_WAITABLE},
        ),
    ],
)
def test_request_of(handle: Any, call: Any, topic: str, nodeid: int, payload: Any) -> None:
    assert isinstance(call(handle), FutureState)
    request = handle.recv()
    assert (request.topic, request.aux1, request.payload) == (topic, nodeid, payload)


def test_job_submit_signs_for_the_owner(handle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 0)
    future = handle.job_submit('{"version": 1}', 16, 0)
    header, payload, signature = handle.recv().payload["J"].split(".")
    assert header == "dmVyc2lvbgBpMQB1c2VyaWQAaTAAbWVjaGFuaXNtAHNub25lAA=="
    assert base64.b64decode(payload) == b'{"version": 1}'
    assert signature == "none"
    assert not Future(future).is_ready()


def test_event_publish_refuses_other_flags(handle: Any) -> None:
    assert outcome(handle.event_publish, "t", 1, None) == "EINVAL"
    assert outcome(handle.event_publish, None, 0, None) == "EINVAL"


def test_subscriptions_of_a_loop_are_granted_at_once(handle: Any) -> None:
    assert handle.flux_event_subscribe("a") == 0
    assert handle.flux_event_unsubscribe("a") == 0
    assert Future(handle.event_subscribe_ex("a", 0)).get() is None
    assert Future(handle.event_unsubscribe_ex("a", 0)).get() is None
    assert outcome(handle.event_subscribe_ex, "a", 1) == "EINVAL"


def test_sequence_number_of_a_published_event(handle: Any) -> None:
    future = Future(handle.event_publish("t", 0, None))
    handle.respond(handle.recv(), {"seq": 42})
    out = ffi.new("int[1]")
    assert raw.flux_event_publish_get_seq(future, out) == 0
    assert out[0] == 42
    other = Future(handle.event_publish("t", 0, None))
    handle.respond(handle.recv(), {})
    assert outcome(raw.flux_event_publish_get_seq, other, out) == "EPROTO"


def test_log_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    handle: Any = flux.Flux("loop://")
    handle.log_set_appname("app")
    handle.log_set_procid("7")
    handle.log_set_hostname("3")
    assert handle.flux_log(6, "one\ntwo\n") == 0
    first, second = handle.recv(), handle.recv()
    assert first.topic == "log.append"
    fields = first.raw.split(b" ")
    assert (fields[0], fields[2:]) == (b"<48>1", [b"3", b"app", b"7", b"-", b"-", b"one"])
    assert second.raw.endswith(b" - - two")
    ffi.errno = errno.ENOENT
    assert handle.log_error("opening") is None
    logged = handle.recv().raw
    assert logged.startswith(b"<24>1 ")
    assert logged.endswith(b" - - opening: No such file or directory")


def test_sync_follows_the_heartbeat(handle: Any) -> None:
    ready: list[float] = []
    state = handle.sync_create(0.0)
    future = Future(state)
    for topic in ("other", "heartbeat.pulse", "heartbeat.pulse"):
        handle.event_send(topic)
    assert future.get() is None  # a wait takes heartbeats only
    future.reset()
    future.then(lambda f: (ready.append(1.0), f.stop()))
    assert handle.reactor_run() == 0
    assert ready == [1.0]


def test_sync_keeps_its_distance(handle: Any) -> None:
    future = Future(handle.sync_create(1e6))
    handle.event_send("heartbeat.pulse")
    assert future.get() is None
    future.reset()
    handle.event_send("heartbeat.pulse")
    assert outcome(future.wait_for, 0) == "ETIMEDOUT"


# Futures.


def test_future_create_with_and_without_init(handle: Any) -> None:
    assert Future(handle.future_create(ffi.NULL, ffi.NULL)).is_ready() is False
    future = handle.future_create(lambda state, arg: raw.flux_future_fulfill_error(state, arg, b"why"), errno.EPERM)
    assert outcome(handle.future_get, future, None) == "EPERM"


def test_future_get_gives_the_response(handle: Any) -> None:
    rpc = handle.rpc("x.y")
    handle.respond(handle.recv(), {"a": 1})
    out = ffi.new("void *[1]")
    assert handle.future_get(rpc, ffi.NULL) == 0
    assert handle.future_get(rpc, out) == 0
    assert out[0].payload == {"a": 1}
    text = ffi.new("char *[1]")
    assert rpc.pimpl.flux_rpc_get(text) == 0
    assert json.loads(ffi.string(text[0])) == {"a": 1}
    assert (rpc.pimpl.get_matchtag(), rpc.pimpl.get_nodeid()) == (1, FLUX_NODEID_ANY)


def test_future_pimpl_fulfils_queues_and_resets() -> None:
    future = Future(FutureState())
    pimpl: Any = future.pimpl
    assert pimpl.is_ready() is False
    assert pimpl.error_string() is None
    pimpl.fulfill(ffi.NULL, ffi.NULL)
    pimpl.fulfill_error(errno.EPERM, "no entry")
    assert (pimpl.is_ready(), pimpl.has_error()) == (True, False)
    assert pimpl.wait_for(0.0) == 0
    pimpl.reset()
    assert (pimpl.has_error(), pimpl.error_string()) == (True, b"no entry")
    pimpl.reset()
    assert pimpl.is_ready() is False
    assert pimpl.incref() is None
    assert pimpl.decref() is None


def test_fatal_error_is_final() -> None:
    pimpl: Any = Future(FutureState()).pimpl
    pimpl.fulfill(None, None)
    pimpl.fulfill(None, None)
    pimpl.fatal_error(errno.EIO, "broken")
    for _ in range(2):
        assert pimpl.error_string() == b"broken"
        pimpl.reset()
    pimpl.fulfill(None, None)
    assert pimpl.has_error() is True


def test_fulfill_with_takes_over_the_outcome() -> None:
    source, target = Future(FutureState()), Future(FutureState())
    pimpl: Any = target.pimpl
    assert outcome(pimpl.fulfill_with, source) == "EAGAIN"
    source.fulfill_error(errno.EPERM, "no")
    assert pimpl.fulfill_with(source) == 0
    assert target.error_string() == "no"


def test_future_belongs_to_a_handle(handle: Any) -> None:
    pimpl: Any = Future(FutureState()).pimpl
    assert pimpl.get_flux() is None
    assert outcome(pimpl.get_reactor) == "EINVAL"
    assert outcome(pimpl.set_reactor, handle.get_reactor()) == "EINVAL"
    other: Any = flux.Flux("loop://", flags=FLUX_O_TEST_NOSUB)
    pimpl.set_flux(other)
    assert pimpl.get_flux() is other.handle
    assert pimpl.get_reactor() is other.get_reactor()
    assert pimpl.set_reactor(other.get_reactor()) is None
    assert outcome(pimpl.set_reactor, handle.get_reactor()) == "EEXIST"


def test_then_calls_back_with_the_argument(handle: Any) -> None:
    seen: list[Any] = []
    future = Future(FutureState())
    pimpl: Any = future.pimpl
    pimpl.set_flux(handle)
    assert pimpl.then(-1.0, lambda state, arg: seen.append((state, arg)), "arg") == 0
    pimpl.fulfill(None, None)
    assert handle.reactor_run() == 0
    assert seen == [(future.handle, "arg")]
    assert outcome(pimpl.then, -1.0, ffi.NULL, ffi.NULL) == "EINVAL"


def test_composites(handle: Any) -> None:
    parent, child = WaitAllFuture(), Future(FutureState())
    pimpl: Any = parent.pimpl
    assert pimpl.push("one", child) == 0
    assert pimpl.get_child("one") is child.handle
    assert outcome(pimpl.get_child, "two") == "ENOENT"
    assert outcome(pimpl.push, "one", child) == "EEXIST"
    assert outcome(child.pimpl.push, "x", parent) == "EINVAL"


def test_future_pimpl_handle_is_the_futures(handle: Any) -> None:
    future, state = Future(FutureState()), FutureState()
    future.pimpl.handle = state
    assert future.handle is state
    with pytest.raises(TypeError, match="expected a"):
        future.pimpl.handle = future
    future.pimpl.handle = None
    assert future.handle is None
    with pytest.raises(ValueError, match="NULL handle"):
        future.pimpl.is_ready()


def test_rpc_names_on_futures_that_are_none() -> None:
    state = FutureState()
    assert outcome(raw.flux_rpc_get_matchtag, state) == "EINVAL"
    state.fulfil("text")
    assert outcome(raw.flux_rpc_get, state, ffi.NULL) == "EINVAL"
    assert raw.flux_future_destroy(state) is None


# The library.


@pytest.mark.parametrize(
    ("value", "fmt", "text"),
    [
        (1, "L", b"NEW"),
        (1, "l", b"new"),
        (1, "S", b"N"),
        (1, "s", b"n"),
        (14, None, b"PENDING"),
        (48, "S", b"RU"),
        (62, "?", b"ACTIVE"),
        (999, "L", b"(unknown)"),
        (999, "S", b"?"),
    ],
)
def test_state_names(value: int, fmt: Any, text: bytes) -> None:
    assert raw.flux_job_statetostr(value, fmt) == text


@pytest.mark.parametrize("spelling", ["TIMEOUT", "timeout", "TO", "to"])
def test_result_names_in_any_spelling(spelling: str) -> None:
    out = ffi.new("flux_job_result_t [1]")
    assert raw.flux_job_strtoresult(spelling, out) == 0
    assert out[0] == 8
    assert raw.flux_job_resulttostr(8, "S") == b"TO"


@pytest.mark.parametrize("spelling", ["", "Timeout", "nosuch", None])
def test_unknown_state_names(spelling: Any) -> None:
    assert outcome(raw.flux_job_strtostate, spelling, ffi.new("flux_job_state_t *")) == "EINVAL"


def test_library_information() -> None:
    out = [ffi.new("int[1]") for _ in range(3)]
    assert raw.flux_core_version(*out) == 0x005800
    assert [number[0] for number in out] == [0, 88, 0]
    assert raw.flux_conf_builtin_get("confdir", raw.FLUX_CONF_AUTO) == b"/etc/flux"
    assert outcome(raw.flux_conf_builtin_get, "nosuch", 0) == "EINVAL"
    assert raw.flux_msg_typestr(4) == b"event"
    assert raw.flux_event_encode("a", "{}").type_str == "event"
    assert outcome(raw.flux_event_encode, None, None) == "EINVAL"


def test_job_id_parse() -> None:
    pytest.importorskip("flux.job.JobID")
    out = ffi.new("flux_jobid_t [1]")
    assert raw.flux_job_id_parse("ƒLUv", out) == 0
    assert out[0] == 65535
    assert outcome(raw.flux_job_id_parse, "!", out) == "EINVAL"


def test_lib_has_the_conventions_of_c(handle: Any) -> None:
    assert lib.flux_get_reactor(handle.handle) is handle.get_reactor()
    assert lib.flux_reactor_now(lib.flux_get_reactor(handle.handle)) > 1e9
    ffi.errno = 0
    assert lib.flux_attr_get(handle.handle, b"nosuch") == ffi.NULL
    assert ffi.errno == errno.ENOENT
    assert lib.flux_send(handle.handle, ffi.NULL, 0) == -1
    assert ffi.errno == errno.EINVAL
    assert ffi.string(lib.flux_attr_get(handle.handle, b"rank")) == b"0"
    assert lib.flux_respond_error(handle.handle, handle.request_encode("a", None), errno.EPERM, b"no") == 0
    with pytest.raises(TypeError):
        lib.flux_send(handle.handle)
    with pytest.raises(InvalidArguments):
        lib.flux_send(handle.handle, "x", 0)


def test_job_kvs_key() -> None:
    buffer = ffi.new("char[64]")
    assert lib.flux_job_kvs_key(buffer, 64, 0x00181D0D4D850FBE, b"R") == 25
    assert ffi.string(buffer) == b"job.0018.1d0d.4d85.0fbe.R"
    assert lib.flux_job_kvs_key(buffer, 64, 1, ffi.NULL) == 23
    assert ffi.string(buffer) == b"job.0000.0000.0000.0001"
    assert lib.flux_job_kvs_key(buffer, 23, 1, ffi.NULL) == -1
    assert ffi.errno == errno.EOVERFLOW


def test_module_functions(handle: Any) -> None:
    opaque = handle.handle
    assert lib.flux_aux_get(opaque, b"flux::name") == ffi.NULL
    assert lib.flux_module_set_running(opaque) == -1
    assert lib.flux_module_debug_test(opaque, 1, False) is False
    module = types.SimpleNamespace(status=0, debug_flags=5)
    opaque.aux[b"flux::name"] = b"mymod"
    opaque.aux[b"fluxlet::module"] = module
    assert ffi.string(ffi.cast("char *", lib.flux_aux_get(opaque, b"flux::name"))) == b"mymod"
    assert lib.flux_module_set_running(opaque) == 0
    assert module.status == 1
    assert lib.flux_module_debug_test(opaque, 2, False) is False
    assert lib.flux_module_debug_test(opaque, 4, True) is True
    assert module.debug_flags == 1


def test_aux_items(handle: Any) -> None:
    thing = object()
    assert handle.aux_set("mine", ffi.new_handle(thing), ffi.NULL) == 0
    assert ffi.from_handle(lib.flux_aux_get(handle.handle, b"mine")) is thing
    handle.aux_set("mine", ffi.NULL, ffi.NULL)
    assert lib.flux_aux_get(handle.handle, b"mine") == ffi.NULL


def test_allow_rolemask_opens_a_message_watcher_to_others(handle: Any) -> None:
    seen: list[int] = []
    watcher = handle.msg_watcher_create(lambda h, w, m, a: (seen.append(m.userid), h.reactor_stop()), 1, "x.y")
    handle.msg_handler_allow_rolemask(watcher.handle, 2)
    watcher.start()
    message = Message()
    message.topic, message.userid, message.rolemask = "x.y", 1000, 2
    handle.send(message)
    handle.reactor_run()
    assert seen == [1000]


def test_poll_descriptors(handle: Any) -> None:
    assert handle.pollevents() == 2
    handle.event_send("a")
    assert handle.pollevents() == 3
    assert outcome(handle.reconnect) == "ENOSYS"


def test_hosts(handle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    attributes = {"rank": "0", "size": "4", "hostlist": "n[1-3],n2", "broker.starttime": "1795311349.20"}
    monkeypatch.setattr(handle.handle.link.connector, "attributes", attributes)
    assert [handle.get_hostbyrank(rank) for rank in (0, 3, 4)] == [b"n1", b"n2", b"(null)"]
    assert handle.get_hostbyrank(FLUX_NODEID_ANY) == b"any"
    assert handle.get_rankbyhost("n2") == 1
    assert outcome(handle.get_rankbyhost, "n9") == "ENOENT"
    out = ffi.new("double *")
    assert handle.get_instance_starttime(out) == 0
    assert out[0] == handle.get_instance_starttime() == 1795311349.2


def test_trampoline_runs_a_module_of_the_old_kind(handle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    package, module = types.ModuleType("flux.modules"), types.ModuleType("flux.modules.old")
    package.__path__ = []
    module.mod_main = lambda h, *args: ran.append((h.get_rank(), h.handle, args))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flux.modules", package)
    monkeypatch.setitem(sys.modules, "flux.modules.old", module)
    mod_main_trampoline("old", int(ffi.cast("uintptr_t", handle.handle)), ["a", "b"])
    assert ran == [(0, handle.handle, ("a", "b"))]
    ran.clear()
    assert handle.get_rank() == 0
    with pytest.raises(ModuleNotFoundError):
        mod_main_trampoline("nosuch", handle.handle, [])
