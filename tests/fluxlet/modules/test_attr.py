"""The service `attr`: what the recording broker-attr does not show."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from in_process import GUEST, BrokerThread, ask, error_of, outcome

import flux
from flux.constants import FLUX_MSGTYPE_REQUEST


def test_values_are_kept_by_a_handle_only_if_they_never_change(broker_thread: BrokerThread) -> None:
    with broker_thread.open() as handle:
        assert handle.attr_get("rank") == "0"
        handle.attr_set("test.a", "1")
        assert handle.attr_get("test.a") == "1"
        broker_thread.call(lambda: broker_thread.broker.attributes.set_internal("test.a", "ƒ\n"))
        assert handle.attr_get("test.a") == "ƒ\n"


def test_names_include_those_without_value(handle: flux.Flux) -> None:
    names = handle.rpc("attr.list").get()["names"]
    assert {"rank", "parent-uri", "log-level"} <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("rolemask", [1, 2, 4, 8])
def test_every_role_may_read(handle: flux.Flux, rolemask: int) -> None:
    message = ask(handle, "attr.get", {"name": "rank"}, userid=1234, rolemask=rolemask)
    assert outcome(message) == (0, '{"value":"0","flags":1}')
    assert ask(handle, "attr.list", None, userid=1234, rolemask=rolemask).aux1 == 0


@pytest.mark.parametrize(
    ("topic", "payload"), [("attr.set", {"name": "test.a", "value": ""}), ("attr.rm", {"name": "x"})]
)
def test_only_the_owner_may_write(handle: flux.Flux, topic: str, payload: Any) -> None:
    assert outcome(ask(handle, topic, payload, **GUEST)) == (errno.EPERM, "Request requires owner credentials")


@pytest.mark.parametrize("payload", [None, "xx", [1], {}, {"name": 1}, {"name": None}])
def test_a_bad_get_is_a_protocol_error_without_text(handle: flux.Flux, payload: Any) -> None:
    assert outcome(ask(handle, "attr.get", payload)) == (errno.EPROTO, None)


@pytest.mark.parametrize("payload", [None, {"name": "test.a"}, {"name": "test.a", "value": 1}, {"value": "x"}])
def test_a_bad_set_is_a_protocol_error(handle: flux.Flux, payload: Any) -> None:
    assert ask(handle, "attr.set", payload).aux1 == errno.EPROTO
    assert error_of(lambda: handle.attr_get("test.a"))[0] == errno.ENOENT


def test_the_stderr_level_must_be_a_number(handle: flux.Flux) -> None:
    # The reference takes it for 0.
    request = {"name": "log-stderr-level", "value": "abc"}
    assert error_of(lambda: handle.rpc("attr.set", request).get()) == (errno.EINVAL, "invalid level")


def test_redirected_attributes_are_set_if_their_service_agrees(broker_thread: BrokerThread, handle: flux.Flux) -> None:
    asked: list[Any] = []

    def serve(service: flux.Flux, watcher: Any, message: Any, args: Any) -> None:
        asked.append(message.payload)
        if message.payload["value"] == "bad":
            service.respond_error(message, errno.EINVAL, "no")
        else:
            service.respond(message)
        service.reactor_stop()

    with broker_thread.open() as service:
        service.service_register("testrd").get()
        watcher = service.msg_watcher_create(serve, FLUX_MSGTYPE_REQUEST, "testrd.setattr")
        watcher.start()
        outcomes = []
        for value in ("bad", "good"):
            future = handle.rpc("attr.set", {"name": "test-rd.a", "value": value})
            service.reactor_run()
            try:
                outcomes.append(future.get())
            except OSError as exc:
                outcomes.append((exc.errno, exc.strerror))
    assert outcomes == [(errno.EINVAL, "no"), None]
    assert asked == [{"name": "test-rd.a", "value": "bad"}, {"name": "test-rd.a", "value": "good"}]
    assert handle.attr_get("test-rd.a") == "good"


def test_it_has_no_standard_methods(handle: flux.Flux) -> None:
    text = "Unknown service method 'attr.ping'"
    assert error_of(lambda: handle.rpc("attr.ping", {}).get()) == (errno.ENOSYS, text)
