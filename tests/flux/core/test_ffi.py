"""flux.core.ffi: the ffi shim (spec 02, section 9.5)."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest

import _flux._core
import flux
from flux.constants import FLUX_O_TEST_NOSUB
from flux.core.ffi import NULL, parse_ctype
from flux.core.inner import ffi, lib


def test_null_is_falsy_equal_to_itself_and_not_none() -> None:
    assert not NULL
    assert ffi.NULL is NULL
    assert ffi.cast("char *", NULL) == NULL
    assert NULL is not None
    assert (NULL == None) is False  # noqa: E711
    assert type(NULL).is_null_pointer is True


@pytest.mark.parametrize(
    ("text", "name", "zero"),
    [
        ("int[1]", "int[1]", 0),
        ("uint32_t [1]", "uint32_t[1]", 0),
        ("int64_t *", "int64_t *", 0),
        ("size_t [3]", "size_t[3]", 0),
        ("double *", "double *", 0.0),
        ("bool [1]", "bool[1]", False),
        ("char *[1]", "char *[1]", NULL),
        ("const char *[2]", "char *[2]", NULL),
        ("void *[1]", "void *[1]", NULL),
        ("flux_jobid_t[1]", "flux_jobid_t[1]", 0),
        ("flux_job_state_t *", "flux_job_state_t *", 0),
        ("flux_job_result_t [1]", "flux_job_result_t[1]", 0),
    ],
)
def test_new_gives_zero(text: str, name: str, zero: Any) -> None:
    made = ffi.new(text)
    assert made[0] == zero
    assert str(ffi.typeof(made)) == name
    assert ffi.typeof(made) == ffi.typeof(text)


def test_arrays_keep_what_is_stored() -> None:
    numbers = ffi.new("int[3]", [1, 2])
    numbers[2] = -7
    assert list(numbers) == [1, 2, -7]
    assert len(numbers) == 3
    assert ffi.new("uint64_t *", 2**64 - 1)[0] == 2**64 - 1
    assert list(ffi.new("int[]", 2)) == [0, 0]
    with pytest.raises(IndexError):
        numbers[3] = 1


@pytest.mark.parametrize(("ctype", "value"), [("uint32_t", -1), ("uint32_t", 2**32), ("int", 2**31), ("size_t", 2**64)])
def test_numbers_that_do_not_fit_overflow(ctype: str, value: int) -> None:
    with pytest.raises(OverflowError):
        ffi.new(f"{ctype}[1]")[0] = value  # type: ignore[call-overload]


@pytest.mark.parametrize("value", ["1", 1.0, None])
def test_integers_take_only_integers(value: Any) -> None:
    with pytest.raises(TypeError):
        ffi.new("int[1]")[0] = value


@pytest.mark.parametrize(
    ("text", "says"), [("no_such_t[1]", "does not know"), ("*", "not a C type"), ("int[]", "needs a length")]
)
def test_what_it_does_not_know_is_a_value_error(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ffi.new(text)


def test_new_wants_an_array_or_pointer() -> None:
    with pytest.raises(TypeError, match="pointer or array"):
        ffi.new("int")


def test_chars() -> None:
    text = ffi.new("char[]", b"abc")
    assert len(text) == 4
    assert ffi.string(text) == b"abc"
    assert ffi.string(text, 2) == b"ab"
    text[1] = b"\0"  # type: ignore[call-overload]
    assert ffi.string(text) == b"a"
    view = ffi.buffer(text, 3)
    assert bytes(view) == b"a\0c"
    view[0:1] = b"x"
    assert text[0] == b"x"
    with pytest.raises(IndexError):
        ffi.new("char[2]", b"abc")


def test_string_refuses_null_and_what_is_no_text() -> None:
    with pytest.raises(RuntimeError):
        ffi.string(NULL)
    with pytest.raises(TypeError):
        ffi.string(ffi.new("int[1]"))


@pytest.mark.parametrize(
    ("ctype", "value", "result"),
    [("uint32_t", -1, 2**32 - 1), ("int", 2**32 - 1, -1), ("int8_t", 130, -126), ("double", 3, 3.0), ("bool", 5, True)],
)
def test_cast_wraps_numbers(ctype: str, value: Any, result: Any) -> None:
    assert ffi.cast(ctype, value) == result


def test_handles_lead_back_to_their_objects() -> None:
    thing = object()
    assert ffi.from_handle(ffi.new_handle(thing)) is thing
    assert ffi.from_handle(ffi.cast("char *", ffi.new_handle(thing))) is thing
    with pytest.raises(TypeError):
        ffi.from_handle(NULL)


def test_address_of_an_opaque_object_leads_back_while_it_lives() -> None:
    handle = flux.Flux("loop://", flags=FLUX_O_TEST_NOSUB)
    address = int(ffi.cast("uintptr_t", handle.handle))
    assert ffi.cast("flux_t *", address) is handle.handle
    assert ffi.cast("flux_t *", 0) is NULL
    del handle
    gc.collect()
    with pytest.raises(ValueError, match="no object at"):
        ffi.cast("flux_t *", address)


def test_typeof_knows_opaque_objects_and_functions() -> None:
    handle = flux.Flux("loop://", flags=FLUX_O_TEST_NOSUB)
    assert str(ffi.typeof(handle.handle)) == "flux_t *"
    assert str(ffi.typeof(flux.message.Message())) == "flux_msg_t *"
    assert len(ffi.typeof(lib.flux_rpc).args) == 5
    with pytest.raises(TypeError):
        ffi.typeof(3)


def test_ctypes_are_equal_by_name() -> None:
    assert parse_ctype("const char*") == parse_ctype("char *")
    assert len({parse_ctype("char *"), parse_ctype("char*")}) == 1
    assert parse_ctype("int") != parse_ctype("int *")


def test_errno_is_a_threads_own() -> None:
    ffi.errno = 5
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(ffi.errno))
    thread.start()
    thread.join()
    assert seen == [0]
    assert ffi.errno == 5


def test_compiled_modules_name_gives_the_same_objects() -> None:
    assert _flux._core.ffi is ffi
    assert _flux._core.lib is lib
