"""flux.wrapper: the errors and their texts, lookup of names, handles of wrappers (spec 02, section 11)."""

from __future__ import annotations

import errno
import gc
import os
import weakref
from typing import Any

import pytest

import flux
from flux.constants import FLUX_O_TEST_NOSUB
from flux.core.inner import ffi, lib, raw
from flux.message import Message
from flux.wrapper import (
    ErrorPrinter,
    FunctionWrapper,
    InvalidArguments,
    MissingFunctionError,
    Wrapper,
    WrapperBase,
    WrapperPimpl,
    WrongNumArguments,
    local_error,
)


@pytest.fixture
def handle() -> flux.Flux:
    return flux.Flux("loop://", flags=FLUX_O_TEST_NOSUB)


def test_missing_function_says_what_was_called_and_where() -> None:
    printer = ErrorPrinter("nosuch", ("flux_", "FLUX_"))
    with pytest.raises(MissingFunctionError) as caught:
        printer("a", 1)
    lines = str(caught.value).splitlines()
    assert "Name called: nosuch" in lines
    assert "Possible C names: ['flux_nosuch', 'FLUX_nosuch']" in lines
    assert "Arguments: ('a', 1)" in lines
    assert "Likely intended C invocation: flux_nosuch('a', 1)" in lines
    assert (
        f"Invocation detail: inside function {test_missing_function_says_what_was_called_and_where.__name__}" in lines
    )
    assert lines[-1].startswith(f"{__file__}:")
    assert lines[-1].endswith(': [printer("a", 1)]')


def test_missing_function_error_is_no_attribute_error() -> None:
    assert not issubclass(MissingFunctionError, (AttributeError, ValueError))


def test_wrong_count_includes_the_implied_handle(handle: Any) -> None:
    with pytest.raises(WrongNumArguments) as caught:
        handle.flux_attr_get("a", "b")
    text = str(caught.value)
    assert "Expected 2 arguments, received 3" in text
    for line in ("Name: flux_attr_get", "C signature: flux_attr_get(", "Arguments: (", "Handle type: flux_t *"):
        assert line in text


def test_invalid_arguments_names_the_function(handle: Any) -> None:
    with pytest.raises(InvalidArguments) as caught:
        handle.flux_attr_get(3)
    text = str(caught.value)
    assert text.startswith("Invalid arguments passed to wrapped C function:\nName: flux_attr_get\nC signature: ")
    assert "Arguments: (3,)" in text


@pytest.mark.parametrize(("number", "text"), [(errno.EINVAL, "EINVAL: Invalid argument"), (35, "EDEADLOCK: ")])
def test_local_error_has_name_and_text(number: int, text: str) -> None:
    assert str(local_error(number).strerror).startswith(text)
    assert local_error(number).errno == number


def test_local_error_of_unknown_number() -> None:
    assert local_error(9999).strerror == f"Errno9999: {os.strerror(9999)}"


def test_wrapper_without_arguments_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        Wrapper()  # type: ignore[call-arg]


def test_uninitialized_wrapper_has_no_names() -> None:
    with pytest.raises(AttributeError):
        object.__new__(Wrapper).anything  # noqa: B018


def test_bases_have_no_dict() -> None:
    for base in (WrapperBase, WrapperPimpl):
        assert "__dict__" not in dir(base())
    with pytest.raises(AttributeError):
        Message().some_name = 1  # type: ignore[attr-defined]


def test_wrapper_gives_its_handle_to_functions_of_its_kind(handle: flux.Flux) -> None:
    wrapper: Any = Wrapper(ffi, lib, handle.handle, prefixes=("flux_",))
    assert wrapper.attr_get("rank") == b"0"
    assert wrapper.match == ffi.typeof("flux_t *")


def test_filter_match_refuses_functions_of_other_kinds(handle: flux.Flux) -> None:
    wrapper: Any = Wrapper(ffi, lib, handle.handle, prefixes=("flux_",))
    with pytest.raises(AttributeError, match="masks function"):
        wrapper.strerror  # noqa: B018
    open_wrapper: Any = Wrapper(ffi, lib, handle.handle, filter_match=False, prefixes=("flux_",))
    assert open_wrapper.strerror(errno.ENOENT) == b"No such file or directory"


def test_replacing_or_dropping_the_handle_destroys_the_old_one(handle: flux.Flux) -> None:
    destroyed: list[Any] = []
    messages = [Message(), Message()]
    wrapper = Wrapper(ffi, lib, messages[0], destructor=destroyed.append)
    wrapper.handle = messages[0]
    assert destroyed == []
    wrapper.handle = messages[1]
    assert destroyed == messages[:1]
    with wrapper as same:
        assert same is wrapper
    assert destroyed == messages
    assert wrapper.handle is None
    wrapper.handle = messages[0]
    del wrapper, same
    assert destroyed == [*messages, messages[0]]


def test_handle_of_another_kind_is_a_type_error(handle: flux.Flux) -> None:
    wrapper = Wrapper(ffi, lib, handle.handle)
    with pytest.raises(TypeError, match="expected a"):
        wrapper.handle = Message()
    assert wrapper.handle is handle.handle


def test_closed_wrapper_says_so() -> None:
    wrapper: Any = Wrapper(ffi, lib, Message(), prefixes=("flux_msg_",))
    bound = wrapper.has_payload
    assert bound() is False
    wrapper.handle = None
    with pytest.raises(
        ValueError, match="Attempting to call a cached, bound method that requires a handle with a NULL"
    ):
        bound()


def test_looking_names_up_leaves_no_cycle(handle: flux.Flux) -> None:
    gone = flux.Flux("loop://", flags=FLUX_O_TEST_NOSUB)
    dynamic: Any = gone
    dynamic.flux_attr_get("rank")
    dynamic.no_such_name  # noqa: B018
    watch = weakref.ref(gone)
    gc.disable()
    try:
        del gone, dynamic
        assert watch() is None
    finally:
        gc.enable()


def test_keywords_are_a_type_error(handle: Any) -> None:
    with pytest.raises(TypeError):
        handle.flux_attr_get(name="rank")
    with pytest.raises(TypeError):
        handle.no_such_function(name="rank")


def test_function_wrapper_goes_by_its_error_check() -> None:
    fun = lib.flux_strerror
    wrapper = FunctionWrapper(fun, "flux_strerror", ffi.typeof(fun), ffi)
    assert wrapper(raw, 2) == b"No such file or directory"
    wrapper.set_error_check(lambda result: result.startswith(b"No such"))
    ffi.errno = errno.EBUSY
    with pytest.raises(OSError, match="EBUSY: "):
        wrapper(raw, 2)
    assert wrapper(raw, errno.EINVAL) == b"Invalid argument"
