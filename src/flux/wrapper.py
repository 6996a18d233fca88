"""The errors of the reference's C wrapper, and the bases its objects share (spec 02, sections 9 and 11).

The reference wraps a C library with cffi; programs catch the errors that its wrapper raises and reach C functions
through attributes of its objects. Both exist here under the same names, over Python implementations of those
functions (`flux.core.dynamic`).

Rules:

- A `Wrapper` looks an unknown attribute up among functions and constants: bare, then with each of its prefixes.
  A function whose first parameter is of the wrapper's own kind (`match`) gets the wrapper's handle there.
- Nothing of that is stored on the object: it would refer to itself, and never be freed by counting.
- `WrapperBase` and `WrapperPimpl` have no `__dict__`: Message, which is made for every message, must not.
"""

from __future__ import annotations

import errno as _errno
import os
import sys
from collections.abc import Callable, Sequence
from types import FrameType, MethodType
from typing import TYPE_CHECKING, Any, NoReturn, Self

if TYPE_CHECKING:
    from flux.core.ffi import FFI, CType
    from flux.core.inner import Lib
    from flux.core.kinds import FunctionType, Kind, LibraryFunction

#: What a call on a closed handle says.
NULL_HANDLE_TEXT = "Attempting to call a cached, bound method that requires a handle with a NULL handle"

#: The signatures of the functions that were looked up so far, by their C names.
SIGS_: dict[str, str] = {}


def strerror(errnum: int) -> str:
    """The text of an errno as the reference gives it (unknown numbers: ``Unknown error N``)."""
    return os.strerror(errnum)


def local_error(errnum: int) -> OSError:
    """An error of shape A (spec 02, 0.1): ``OSError(n, "NAME: text")``, for a call that failed locally."""
    name = _errno.errorcode.get(errnum, f"Errno{errnum}")
    return OSError(errnum, f"{name}: {os.strerror(errnum)}")


def as_local_error(error: OSError) -> OSError:
    """`error` in shape A, as every wrapped function raises it; what its own text said more is kept as a note."""
    number = error.errno or _errno.EIO
    local = local_error(number)
    if error.strerror == local.strerror:
        return error
    for note in getattr(error, "__notes__", ()):
        local.add_note(note)
    if error.strerror and error.strerror != os.strerror(number):
        local.add_note(error.strerror)
    return local


def _invocation(frame: FrameType | None) -> str:
    """Where the first frame outside of this file is: what a user wants to know of a misspelt call."""
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    if frame is None:
        return "unknown"
    from linecache import getline

    code, line = frame.f_code, frame.f_lineno
    source = getline(code.co_filename, line).strip()
    return f"inside function {code.co_name}\n{code.co_filename}:{line}: [{source}]"


class MissingFunctionError(Exception):
    """A name was called that is no function of the C library, or none that we have.

    Args:
        name: the name as it was written.
        c_name: the C function that was likely meant.
        name_list: all C names that were tried.
        arguments: the arguments of the call.
    """

    def __init__(self, name: str, c_name: str, name_list: Sequence[str], arguments: tuple[Any, ...]) -> None:
        call = ", ".join(repr(argument) for argument in arguments)
        super().__init__(
            f"\nName called: {name}\nPossible C names: {list(name_list)}\nArguments: {arguments}\n"
            f"Likely intended C invocation: {c_name}({call})\n"
            f"Invocation detail: {_invocation(sys._getframe())}"
        )


class InvalidArguments(ValueError):
    """An argument is of a kind that the wrapped C function does not take."""

    def __init__(self, name: str, signature: str, arguments: Any) -> None:
        super().__init__(
            f"Invalid arguments passed to wrapped C function:\nName: {name}\n"
            f"C signature: {signature}\nArguments: {arguments}"
        )


class WrongNumArguments(ValueError):
    """A wrapped C function was called with too few or too many arguments; the counts include an implied handle."""

    def __init__(self, name: str, signature: str, ftype: Any, arguments: Any, htype: Any) -> None:
        super().__init__(
            f"Expected {len(ftype.args)} arguments, received {len(arguments)}\n\nName: {name}\n"
            f"C signature: {signature}\nArguments: {arguments}\nHandle type: {htype}"
        )


class ErrorPrinter:
    """Stands for a function that there is not: calling it raises MissingFunctionError."""

    def __init__(self, name: str, prefixes: Sequence[str]) -> None:
        self.name = name
        self.prefixes = prefixes

    def __call__(self, *args: Any) -> NoReturn:
        names = [prefix + self.name for prefix in self.prefixes]
        raise MissingFunctionError(self.name, names[0] if names else self.name, names, args)


class FunctionWrapper:
    """A function of the library, with Python's conventions: arguments converted, failures raised.

    Args:
        fun: the function, an attribute of `flux.core.inner.lib`.
        name: what it is called in errors.
        function_type: its parameters and result: ``ffi.typeof(fun)``.
        ffi: the ffi whose `errno` an error check goes by.
        add_handle: whether the handle of the object it is called on is its first argument.
    """

    def __init__(
        self,
        fun: LibraryFunction,
        name: str,
        function_type: FunctionType,
        ffi: FFI,
        add_handle: bool = False,
    ) -> None:
        self.fun = fun
        self.name = self.__name__ = name
        self.function_type = function_type
        self.ffi = ffi
        self.add_handle = add_handle
        self.is_error: Callable[[Any], bool] | None = None
        SIGS_[function_type.name] = function_type.signature
        self.arg_trans = self.build_argument_translation_list(function_type)

    def set_error_check(self, fun: Callable[[Any], bool]) -> None:
        """Has ``fun(result)`` decide whether a call failed; if so, `ffi.errno` is raised."""
        self.is_error = fun

    def build_argument_translation_list(self, fun_type: FunctionType) -> list[Kind]:
        """What converts each argument."""
        return list(fun_type.args)

    def __call__(self, calling_object: Any, *args_in: Any) -> Any:
        """Calls the function for `calling_object`.

        Raises WrongNumArguments, InvalidArguments, OverflowError for the arguments, ValueError if the object has
        no handle any more, OSError of shape A for what fails.
        """
        args = args_in
        if self.add_handle:
            handle = calling_object.handle
            if handle is None:
                raise ValueError(NULL_HANDLE_TEXT)
            args = (handle, *args_in)
        kinds = self.arg_trans
        if not self.function_type.required <= len(args) <= len(kinds):
            match = getattr(calling_object, "match", None)
            raise WrongNumArguments(self.name, self.function_type.signature, self.function_type, args, match)
        try:
            converted = [kind.convert(self.function_type, value) for kind, value in zip(kinds, args, strict=False)]
            result = self.fun.implementation(*converted)
        except OSError as exc:
            raise as_local_error(exc) from exc.__cause__
        if self.is_error is not None and self.is_error(result):
            raise local_error(self.ffi.errno)
        return result


class WrapperBase:
    """An object with an opaque handle."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()

    @property
    def handle(self) -> Any:
        """The opaque handle; None once it is closed."""
        raise NotImplementedError(f"{type(self).__name__} has no handle")

    @handle.setter
    def handle(self, handle: Any) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no handle")


class WrapperPimpl(WrapperBase):
    """An object whose opaque handle lives in its `pimpl`; leaving its context closes that."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()

    @property
    def pimpl(self) -> Wrapper:
        """The wrapper of the opaque handle."""
        raise NotImplementedError(f"{type(self).__name__} has no pimpl")

    @property
    def handle(self) -> Any:
        """The opaque handle; None once it is closed. May be set to another of its kind."""
        return self.pimpl.handle

    @handle.setter
    def handle(self, handle: Any) -> None:
        self.pimpl.handle = handle

    def __enter__(self) -> Self:
        return self

    def __exit__(self, type_arg: object, value: object, last: object) -> None:
        self.pimpl.__exit__(type_arg, value, last)


class Wrapper(WrapperBase):
    """An object whose unknown attributes are looked up among the C library's functions and constants.

    Args:
        ffi, lib: those of `flux.core.inner`.
        handle: the opaque handle.
        match: type of the handle, by default that of `handle`: functions whose first parameter has it get it there.
        filter_match: other functions raise AttributeError; False: they are called without the handle.
        prefixes: what is tried in front of a name that is not found as it is.
        destructor: called with the handle when it is replaced or this object goes.
    """

    ffi: FFI
    lib: Lib
    match: CType | None = None
    filter_match: bool = True
    prefixes: Sequence[str] = ()
    destructor: Callable[[Any], Any] | None = None

    def __init__(
        self,
        ffi: FFI,
        lib: Lib,
        handle: Any = None,
        match: CType | None = None,
        filter_match: bool = True,
        prefixes: Sequence[str] = (),
        destructor: Callable[[Any], Any] | None = None,
    ) -> None:
        self.ffi = ffi
        self.lib = lib
        self.match = ffi.typeof(handle) if match is None and handle is not None else match
        self.filter_match = filter_match
        self.prefixes = prefixes
        self.destructor = destructor
        if handle is not None:
            self.handle = handle

    @property
    def handle(self) -> Any:
        """The opaque handle; None once closed. Setting it destroys the old one; TypeError for a wrong kind."""
        return self.__dict__.get("_handle")

    @handle.setter
    def handle(self, handle: Any) -> None:
        if handle is not None and self.match is not None and self.ffi.typeof(handle) != self.match:
            raise TypeError(f"initializer for ctype '{self.match}': expected a handle of that kind, not {handle!r}")
        old, self._handle = self.__dict__.get("_handle"), handle
        if old is not None and old is not handle and self.destructor is not None:
            self.destructor(old)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, type_arg: object, value: object, unused: object) -> None:
        self.handle = None

    def __del__(self) -> None:
        if self.__dict__.get("_handle") is not None:
            self.handle = None

    def check_handle(self, name: str, fun_type: FunctionType) -> bool:
        """Whether a function of this type gets this object's handle as first argument.

        Raises AttributeError if it takes another kind of object and `filter_match` is set.
        """
        if self.match is None:
            return False
        if fun_type.args and fun_type.args[0].ctype == self.match:
            return True
        if self.filter_match:
            raise AttributeError(
                f"{type(self).__name__}.{name} masks function {fun_type.signature}, whose first parameter is no "
                f"'{self.match}'"
            )
        return False

    def check_wrap(self, fun: Any, name: str) -> Any:
        """What the attribute `name` is, given what the library has for it: a bound function, or a constant."""
        function_type: FunctionType | None = getattr(fun, "type", None)
        if function_type is None:
            return fun
        add_handle = self.check_handle(name, function_type)
        return MethodType(FunctionWrapper(fun, name, function_type, self.ffi, add_handle), self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        if "lib" not in self.__dict__ and not hasattr(type(self), "lib"):
            # A subclass's __init__ has not run: to look the name up would need what it sets up.
            raise AttributeError(f"'{type(self).__name__}' object is not initialized: no attribute '{name}'")
        from flux.core.dynamic import find

        for candidate in (name, *[prefix + name for prefix in self.prefixes]):
            found = find(candidate)
            if found is not None:
                return self.check_wrap(found, name)
        return ErrorPrinter(name, self.prefixes)
