"""The kinds of parameters that the library's functions have, and the functions themselves (spec 02, 0.2 and 9.1).

A function is entered in the table by a decorator that names the kinds of its parameters:

    @function("flux_attr_get", HANDLE, TEXT)
    def _(ctx: FluxT, name: bytes | None) -> bytes: ...

Rules:

- The implementation gets converted arguments, and raises OSError for what fails.
- The object that a function is about is never null there: a null one is EINVAL, as in C. A text may be null.
- `FunctionWrapper` calls with Python's conventions, a `LibraryFunction` with C's: -1, NULL or 0, and `ffi.errno`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, TypeVar

from flux.core.dispatch import Handler, Match
from flux.core.ffi import NULL, CData, CType, Number, Pointer, char_pointer, ffi
from flux.core.flux_t import FluxT
from flux.core.future_state import FutureState
from flux.core.kvs_dir import DirCursor, DirState
from flux.core.kvs_txn import Txn
from flux.message import Message
from flux.reactor import Reactor
from flux.wrapper import InvalidArguments, WrapperBase, local_error

ImplementationT = TypeVar("ImplementationT", bound=Callable[..., Any])

_OPAQUE: tuple[tuple[type, CType], ...] = (
    (FluxT, CType("flux_t *")),
    (FutureState, CType("flux_future_t *")),
    (Message, CType("flux_msg_t *")),
    (Reactor, CType("flux_reactor_t *")),
    (Handler, CType("flux_msg_handler_t *")),
    (Txn, CType("flux_kvs_txn_t *")),
    (DirState, CType("flux_kvsdir_t *")),
    (DirCursor, CType("flux_kvsitr_t *")),
)


def opaque_ctype(value: Any) -> CType | None:
    """The C type of an opaque object; None for anything else."""
    return next((ctype for cls, ctype in _OPAQUE if isinstance(value, cls)), None)


def is_null(value: Any) -> bool:
    """True for None and the null pointer."""
    return value is None or (isinstance(value, CData) and value.is_null_pointer)


class Kind:
    """A kind of parameter.

    Args:
        cname: its C type.
        accept: converts a value that is not null; raises TypeError for one of another kind.
        nullable: whether null is an argument (None, for the implementation). Otherwise it is EINVAL for
            pointers, and another kind for numbers.
    """

    def __init__(self, cname: str, accept: Callable[[Any], Any], nullable: bool = False) -> None:
        self.ctype = CType(cname)
        self._accept = accept
        self._nullable = nullable

    def convert(self, function_type: FunctionType, value: Any) -> Any:
        """The implementation's argument. Raises InvalidArguments, OverflowError, or OSError(EINVAL) for null."""
        if isinstance(value, WrapperBase):
            value = value.handle
        if is_null(value):
            if self._nullable:
                return None
            if self.ctype.cname.endswith("*"):
                raise local_error(errno.EINVAL)
        try:
            return self._accept(value)
        except TypeError:
            raise InvalidArguments(function_type.name, function_type.signature, (value,)) from None


def _instance(cls: type) -> Callable[[Any], Any]:
    def accept(value: Any) -> Any:
        if not isinstance(value, cls):
            raise TypeError
        return value

    return accept


def _text(value: Any) -> bytes:
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogateescape")
    elif isinstance(value, CData):
        value = ffi.string(value)
    elif not isinstance(value, bytes):
        raise TypeError
    # The C function would see no more of it.
    text: bytes = value.partition(b"\0")[0]
    return text


def _integer(low: int, high: int, what: str) -> Callable[[Any], int]:
    def accept(value: Any) -> int:
        if isinstance(value, Number):
            value = value.value
        if not isinstance(value, int):
            raise TypeError
        if not low <= value <= high:
            raise OverflowError(f"integer {value} does not fit '{what}'")
        return int(value)

    return accept


def _owner(value: Any) -> int:
    if not isinstance(value, int):
        raise TypeError
    if not -1 <= value < 1 << 32:
        raise OverflowError(f"integer {value} does not fit '32-bit unsigned int'")
    return value & 0xFFFFFFFF


def _double(value: Any) -> float:
    if not isinstance(value, (int, float, Number)):
        raise TypeError
    return float(value)


def _out(value: Any) -> Any:
    if not isinstance(value, CData) or not hasattr(value, "__setitem__"):
        raise TypeError
    return value


def _match(value: Any) -> Match:
    """A `struct flux_match`, which Python code writes as (typemask, matchtag, topic_glob) or as a dict."""
    if isinstance(value, Match):
        return value
    if isinstance(value, dict):
        value = [value.get("typemask", 0), value.get("matchtag", 0), value.get("topic_glob")]
    if not isinstance(value, (list, tuple)) or len(value) > 3:
        raise TypeError
    fields: list[Any] = list(value)
    typemask, matchtag, glob = fields + [0, 0, None][len(fields) :]  # C fills up with zeros
    number = _integer(0, 0xFFFFFFFF, "32-bit unsigned int")
    return Match(number(typemask), number(matchtag), None if is_null(glob) else _text(glob))


def _callback(value: Any) -> Any:
    if not callable(value):
        raise TypeError
    return value


HANDLE = Kind("flux_t *", _instance(FluxT))
FUTURE = Kind("flux_future_t *", _instance(FutureState))
MESSAGE = Kind("flux_msg_t *", _instance(Message))
REACTOR = Kind("flux_reactor_t *", _instance(Reactor))
HANDLER = Kind("flux_msg_handler_t *", _instance(Handler))
TXN = Kind("flux_kvs_txn_t *", _instance(Txn))
KVSDIR = Kind("flux_kvsdir_t *", _instance(DirState))
KVSITR = Kind("flux_kvsitr_t *", _instance(DirCursor))
TEXT = Kind("char *", _text, nullable=True)
INT = Kind("int", _integer(-(1 << 31), (1 << 31) - 1, "32-bit int"))
#: A userid; -1 as C's unsigned has it, which stands for the instance owner.
OWNER = Kind("uint32_t", _owner)
UINT32 = Kind("uint32_t", _integer(0, (1 << 32) - 1, "32-bit unsigned int"))
UINT64 = Kind("uint64_t", _integer(0, (1 << 64) - 1, "64-bit unsigned int"))
DOUBLE = Kind("double", _double)
BOOL = Kind("bool", bool)
MATCH = Kind("struct flux_match", _match)
#: A place for a result, made by `ffi.new`.
OUT = Kind("void *", _out, nullable=True)
#: Anything, handed through.
POINTER = Kind("void *", lambda value: value, nullable=True)
#: A Python function: there is no C here to make one of.
CALLBACK = Kind("void(*)()", _callback, nullable=True)


class FunctionType:
    """A function's name, the kinds of its parameters, and how many of them it needs."""

    def __init__(self, name: str, args: tuple[Kind, ...], required: int) -> None:
        self.name = name
        self.args = args
        self.required = required

    @property
    def signature(self) -> str:
        """``name(types)``."""
        return f"{self.name}({', '.join(kind.ctype.cname for kind in self.args)})"

    def __repr__(self) -> str:
        return f"<ctype '{self.signature}'>"


class LibraryFunction:
    """A function of `lib`: called with C's conventions."""

    def __init__(self, function_type: FunctionType, implementation: Callable[..., Any], failure: Any) -> None:
        self.type = function_type
        self.implementation = implementation
        self._failure = failure

    def __call__(self, *args: Any) -> Any:
        """Calls it; what fails returns -1, NULL or 0, whichever C's does, and sets `ffi.errno`."""
        kinds = self.type.args
        if not self.type.required <= len(args) <= len(kinds):
            raise TypeError(f"'{self.type.signature}' expects {len(kinds)} arguments, got {len(args)}")
        try:
            result = self.implementation(
                *[kind.convert(self.type, value) for kind, value in zip(kinds, args, strict=False)]
            )
        except OSError as exc:
            ffi.errno = exc.errno or errno.EIO
            return self._failure
        if isinstance(result, bytes):
            return char_pointer(result)
        return NULL if result is None and self._failure is NULL else result

    def __repr__(self) -> str:
        return f"<cdata '{self.type.signature}'>"


#: All functions, by their C names.
FUNCTIONS: dict[str, LibraryFunction] = {}


def function(
    name: str, *args: Kind, optional: int = 0, failure: Any = NULL
) -> Callable[[ImplementationT], ImplementationT]:
    """Enters a function in the table.

    Args:
        name: the C name.
        args: the kinds of its parameters.
        optional: how many of the last may be left out (the implementation has defaults for them).
        failure: what C returns when it fails: -1 for those that return a number.
    """

    def enter(implementation: ImplementationT) -> ImplementationT:
        function_type = FunctionType(name, args, len(args) - optional)
        FUNCTIONS[name] = LibraryFunction(function_type, implementation, failure)
        return implementation

    return enter


def pointer_to(value: Any) -> Any:
    """What an out-parameter `void *` or `char *` is set to."""
    if value is None:
        return NULL
    if isinstance(value, bytes):
        return char_pointer(value)
    return value if isinstance(value, CData) or opaque_ctype(value) else Pointer(CType("void *"), value)
