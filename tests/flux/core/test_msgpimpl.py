"""Message.pimpl: `flux_msg_*`, and what may be set and got on which type (spec 02, 9.3; spec 01, 1.4)."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from flux.core.inner import ffi
from flux.message import Message
from flux.wrapper import InvalidArguments, MissingFunctionError

REQUEST, RESPONSE, EVENT, CONTROL = 1, 2, 4, 8
EVERY = (REQUEST, RESPONSE, EVENT, CONTROL)


def pimpl(kind: int = REQUEST) -> Any:
    return Message(kind).pimpl


def got(wrapper: Any, name: str, ctype: str = "uint32_t") -> Any:
    out = ffi.new(f"{ctype} [1]")
    assert getattr(wrapper, f"get_{name}")(out) == 0
    return out[0]


@pytest.mark.parametrize(
    ("field", "ctype", "types"),
    [
        ("nodeid", "uint32_t", (REQUEST,)),
        ("matchtag", "uint32_t", (REQUEST, RESPONSE)),
        ("errnum", "int", (RESPONSE,)),
        ("seq", "uint32_t", (EVENT,)),
        ("userid", "uint32_t", EVERY),
        ("rolemask", "uint32_t", EVERY),
    ],
)
def test_field_belongs_to_its_types(field: str, ctype: str, types: tuple[int, ...]) -> None:
    for kind in EVERY:
        wrapper = pimpl(kind)
        if kind in types:
            assert getattr(wrapper, f"set_{field}")(17) == 0
            assert got(wrapper, field, ctype) == 17
        else:
            with pytest.raises(OSError, match="EINVAL: Invalid argument") as refused:
                getattr(wrapper, f"set_{field}")(17)
            assert refused.value.errno == errno.EINVAL
            with pytest.raises(OSError, match="EPROTO: Protocol error") as missing:
                got(wrapper, field, ctype)
            assert missing.value.errno == errno.EPROTO


@pytest.mark.parametrize(
    ("call", "arguments", "error"),
    [
        ("set_nodeid", (0xFFFFFFFE,), errno.EINVAL),
        ("set_type", (3,), errno.EINVAL),
        ("get_topic", (ffi.new("char *[1]"),), errno.EPROTO),
        ("route_push", ("a",), errno.EPROTO),
        ("route_push", (None,), errno.EINVAL),
        ("route_count", (), errno.EPROTO),
        ("route_string", (), errno.EPROTO),
        ("set_flag", (0x44,), errno.EINVAL),
        ("set_flag", (0x100,), errno.EINVAL),
        ("set_flag", (0x02,), errno.EINVAL),
        ("clear_flag", (0x100,), errno.EINVAL),
    ],
)
def test_refusal(call: str, arguments: tuple[Any, ...], error: int) -> None:
    with pytest.raises(OSError, match=errno.errorcode[error]) as caught:
        getattr(pimpl(), call)(*arguments)
    assert caught.value.errno == error


def test_numbers_out_of_range_overflow_and_texts_are_invalid() -> None:
    for value in (-1, 1 << 32):
        with pytest.raises(OverflowError):
            pimpl().set_userid(value)
    with pytest.raises(InvalidArguments):
        pimpl().set_userid("x")


def test_topic_and_string() -> None:
    wrapper = pimpl()
    assert got(wrapper, "string", "char *") == ffi.NULL
    assert wrapper.set_topic("a.b") == 0
    assert wrapper.set_string(b"text\0tail") == 0
    assert ffi.string(got(wrapper, "topic", "char *")) == b"a.b"
    assert ffi.string(got(wrapper, "string", "char *")) == b"text"
    assert wrapper.has_payload() is True
    wrapper.set_string(None)
    assert wrapper.has_payload() is False
    with pytest.raises(OSError, match="EINVAL"):
        pimpl(CONTROL).set_topic("a")


@pytest.mark.parametrize("raw", [b"", b"no nul"])
def test_string_of_a_payload_that_is_none(raw: bytes) -> None:
    message = Message()
    message.raw = raw
    message.flags |= 2
    with pytest.raises(OSError, match="EPROTO"):
        got(message.pimpl, "string", "char *")


def test_streaming_and_noresponse_exclude_each_other_through_setters_only() -> None:
    wrapper = pimpl()
    wrapper.set_streaming()
    wrapper.set_noresponse()
    assert (wrapper.is_streaming(), wrapper.is_noresponse()) == (False, True)
    wrapper.set_streaming()
    assert (wrapper.is_streaming(), wrapper.is_noresponse()) == (True, False)
    wrapper.set_flag(4)
    assert (wrapper.is_streaming(), wrapper.is_noresponse()) == (True, True)
    assert wrapper.has_flag(0x80) is False
    wrapper.clear_flag(4)
    assert (wrapper.is_streaming(), wrapper.is_noresponse()) == (True, False)


def test_clearing_a_parts_flag_removes_the_part() -> None:
    message = Message()
    wrapper: Any = message.pimpl
    message.topic, message.payload_str = "t", "x"
    wrapper.set_flag(8)
    wrapper.route_push("a")
    wrapper.clear_flag(1 | 2 | 8)
    assert (message.topic_bytes, message.raw, message.routes, message.flags) == (None, None, None, 0)


def test_local_role() -> None:
    wrapper = pimpl()
    assert wrapper.is_local() is False
    wrapper.set_rolemask(4)
    assert wrapper.is_local() is True


def test_routes_are_pushed_in_front() -> None:
    message = Message()
    wrapper: Any = message.pimpl
    assert wrapper.route_first() is None
    wrapper.route_enable()
    assert wrapper.route_last() is None
    wrapper.route_push("sender-of-all")
    wrapper.route_push("hop")
    assert message.routes == (b"hop", b"sender-of-all")
    assert (wrapper.route_first(), wrapper.route_last()) == (b"sender-of-all", b"hop")
    assert wrapper.route_string() == b"sender-o!hop"
    wrapper.route_clear()
    assert wrapper.route_count() == 0
    wrapper.route_disable()
    assert message.routes is None


def test_type_change_resets_the_words_but_a_response_keeps_the_matchtag() -> None:
    wrapper = pimpl()
    wrapper.set_matchtag(9)
    wrapper.set_type(RESPONSE)
    assert (got(wrapper, "matchtag"), got(wrapper, "errnum", "int"), got(wrapper, "type", "int")) == (9, 0, RESPONSE)
    wrapper.set_type(EVENT)
    assert got(wrapper, "seq") == 0


def test_copy_and_size() -> None:
    message = Message()
    message.topic, message.payload_str = "abc", "xyz"
    wrapper: Any = message.pimpl
    assert wrapper.encode_size() == 1 + 3 + 1 + 4 + 21
    assert wrapper.copy(False).payload_str is None
    copied = wrapper.copy(True)
    assert copied is not message
    assert copied.payload_str == "xyz"
    assert wrapper.last_error() == b""


def test_other_kinds_of_functions_are_masked_and_unknown_ones_missing() -> None:
    with pytest.raises(AttributeError, match="masks function"):
        pimpl().flux_request_encode  # noqa: B018
    with pytest.raises(MissingFunctionError):
        pimpl().no_such_thing()


def test_pimpl_without_handle_says_so() -> None:
    wrapper = pimpl()
    wrapper.handle = None
    with pytest.raises(ValueError, match="NULL handle"):
        wrapper.has_payload()
