"""The ffi shim: as much of cffi's interface as programs for Flux use (spec 02, section 9.5).

There is no C behind it. Out-parameters are arrays (`new`), C strings are bytes in a `Pointer`, and the opaque
objects of the API (handles, futures, messages) are the Python objects themselves.

Rules:

- A null pointer has the class attribute `is_null_pointer`: the API takes it wherever it takes None.
- Numbers are checked as cffi does: what does not fit raises OverflowError, other kinds TypeError.
- `errno` is a thread's own, as in C.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar
from weakref import WeakValueDictionary


class CType:
    """A C type: equal to others of the same name."""

    __slots__ = ("cname", "item", "length")

    def __init__(self, cname: str, item: CType | None = None, length: int | None = None) -> None:
        self.cname = cname
        self.item = item
        self.length = length

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CType) and other.cname == self.cname

    def __hash__(self) -> int:
        return hash(self.cname)

    def __str__(self) -> str:
        return self.cname

    def __repr__(self) -> str:
        return f"<ctype '{self.cname}'>"


class CData:
    """A value of a C type."""

    is_null_pointer: ClassVar[bool] = False
    ctype: CType


class Null(CData):
    """The null pointer."""

    is_null_pointer = True
    ctype = CType("void *")

    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Null)

    def __hash__(self) -> int:
        return 0

    def __int__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "<cdata 'void *' NULL>"


NULL = Null()

#: Bits of the integer types; negative: signed.
_INTEGERS = {
    "int": -32,
    "signed int": -32,
    "unsigned int": 32,
    "unsigned": 32,
    "short": -16,
    "long": -64,
    "unsigned long": 64,
    "long long": -64,
    "unsigned long long": 64,
    "int8_t": -8,
    "uint8_t": 8,
    "int16_t": -16,
    "uint16_t": 16,
    "int32_t": -32,
    "uint32_t": 32,
    "int64_t": -64,
    "uint64_t": 64,
    "size_t": 64,
    "ssize_t": -64,
    "intptr_t": -64,
    "uintptr_t": 64,
    "flux_jobid_t": 64,
    "flux_job_state_t": 32,
    "flux_job_result_t": 32,
}
_FLOATS = ("double", "float")
_BOOLS = ("bool", "_Bool")
_CHARS = ("char", "unsigned char")


def _integer(ctype: CType, value: Any) -> int:
    bits = _INTEGERS[ctype.cname]
    if isinstance(value, float) or not hasattr(value, "__index__"):
        raise TypeError(f"initializer for ctype '{ctype}' must be an integer, not {type(value).__name__}")
    number = int(value)
    low, high = (0, 1 << bits) if bits > 0 else (-(1 << -bits - 1), 1 << -bits - 1)
    if not low <= number < high:
        raise OverflowError(f"integer {number} does not fit '{ctype}'")
    return number


def _converter(ctype: CType) -> tuple[Any, Callable[[CType, Any], Any]]:
    """The initial value of a type, and what checks a value assigned to it."""
    name = ctype.cname
    if name in _INTEGERS:
        return 0, _integer
    if name in _FLOATS:
        return 0.0, lambda _, value: float(value)
    if name in _BOOLS:
        return False, lambda _, value: bool(value)
    if name.endswith("*"):
        return NULL, lambda _, value: NULL if value is None else value
    raise ValueError(
        f"the ffi shim does not know the C type '{name}': it has the numbers, bool, char, pointers and arrays of them"
    )


class Number(CData):
    """A number of a C type, as `cast` makes it."""

    def __init__(self, ctype: CType, value: Any) -> None:
        self.ctype = ctype
        self.value = value

    def __int__(self) -> int:
        return int(self.value)

    def __index__(self) -> int:
        return int(self.value)

    def __float__(self) -> float:
        return float(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __eq__(self, other: object) -> bool:
        return bool(self.value == (other.value if isinstance(other, Number) else other))

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return f"<cdata '{self.ctype}' {self.value!r}>"


class Array(CData):
    """Numbers or pointers, with `[i]` to get and set: what an out-parameter is."""

    def __init__(self, ctype: CType, item: CType, length: int) -> None:
        zero, self._convert = _converter(item)
        self.ctype = ctype
        self.item = item
        self.items = [zero] * length

    def __getitem__(self, index: int) -> Any:
        return self.items[self._index(index)]

    def __setitem__(self, index: int, value: Any) -> None:
        self.items[self._index(index)] = self._convert(self.item, value)

    def _index(self, index: int) -> int:
        if not 0 <= index < len(self.items):
            raise IndexError(f"index {index} is out of the bounds of cdata '{self.ctype}'")
        return index

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __repr__(self) -> str:
        return f"<cdata '{self.ctype}' {self.items}>"


class Chars(CData):
    """An array of char, whose items are bytes of length 1."""

    def __init__(self, ctype: CType, data: bytearray) -> None:
        self.ctype = ctype
        self.data = data

    def __getitem__(self, index: int | slice) -> bytes:
        if isinstance(index, slice):
            return bytes(self.data[index])
        return bytes((self.data[index],))

    def __setitem__(self, index: int | slice, value: bytes) -> None:
        if isinstance(index, slice):
            if len(self.data[index]) != len(value):
                raise ValueError(f"need {len(self.data[index])} bytes, got {len(value)}")
            self.data[index] = value
        else:
            if len(value) != 1:
                raise TypeError(f"initializer for ctype 'char' must be a bytes of length 1, not {value!r}")
            self.data[index] = value[0]

    def __len__(self) -> int:
        return len(self.data)

    def __bytes__(self) -> bytes:
        return bytes(self.data)

    def __repr__(self) -> str:
        return f"<cdata '{self.ctype}' owning {len(self.data)} bytes>"


class Pointer(CData):
    """A pointer to something kept in Python: to bytes (`char *`), or to an object (`void *`)."""

    def __init__(self, ctype: CType, target: Any) -> None:
        self.ctype = ctype
        self.target = target

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pointer) and other.target is self.target

    def __hash__(self) -> int:
        return id(self.target)

    def __repr__(self) -> str:
        return f"<cdata '{self.ctype}' to {self.target!r}>"


_CHAR_POINTER = CType("char *", CType("char"))
_VOID_POINTER = CType("void *", CType("void"))


def char_pointer(text: bytes | None) -> CData:
    """A `char *` to a text, NULL for None."""
    return NULL if text is None else Pointer(_CHAR_POINTER, text)


def parse_ctype(text: str) -> CType:
    """The type that a declaration like ``uint32_t [1]`` or ``char *`` means."""
    words = text.replace("*", " * ").replace("[", " [ ").replace("]", " ] ").split()
    words = [word for word in words if word not in ("const", "struct", "enum")]
    length = None
    is_array = bool(words) and words[-1] == "]"
    if is_array:
        start = words.index("[")
        if words[start + 1 : -1]:
            length = int(words[start + 1], 0)
        words = words[:start]
    base = " ".join(word for word in words if word != "*")
    stars = words.count("*")
    if not base:
        raise ValueError(f"not a C type: {text!r}")
    ctype = CType(base)
    for depth in range(stars):
        ctype = CType(f"{base} {'*' * (depth + 1)}", ctype)
    if is_array:
        ctype = CType(f"{ctype}[{'' if length is None else length}]", ctype, length)
    return ctype


class FFI:
    """The object `ffi`: one a process."""

    NULL = NULL

    def __init__(self) -> None:
        self._local = threading.local()
        # Objects whose address was asked for, so that the address leads back to them while they live.
        self._addresses: WeakValueDictionary[int, Any] = WeakValueDictionary()

    @property
    def errno(self) -> int:
        """The error number of the last function of `lib` that failed in this thread."""
        return getattr(self._local, "errno", 0)

    @errno.setter
    def errno(self, value: int) -> None:
        self._local.errno = value

    def new(self, cdecl: str | CType, init: Any = None) -> Array | Chars:
        """A new array, ``"T [n]"`` or ``"T[]"``, or pointer to one value, ``"T *"``; zero without `init`.

        Args:
            init: a list of values for arrays (a length instead of one, for ``T[]``), a value for pointers,
                bytes for chars, which get a NUL at the end where there is room.
        """
        ctype = parse_ctype(cdecl) if isinstance(cdecl, str) else cdecl
        item = ctype.item
        if item is None:
            raise TypeError(f"expected a pointer or array ctype, got '{ctype}'")
        is_array = ctype.cname.endswith("]")
        length = ctype.length if is_array else 1
        if length is None:
            if init is None:
                raise ValueError(f"ctype '{ctype}' needs a length or an initializer")
            if isinstance(init, int):
                length, init = init, None
            else:
                length = len(init) + (item.cname in _CHARS)
        if item.cname in _CHARS:
            data = bytearray(length)
            if init is not None:
                if len(init) > length:
                    raise IndexError(f"initializer bytes is too long for '{ctype}' (got {len(init)} bytes)")
                data[: len(init)] = init
            return Chars(ctype, data)
        array = Array(ctype, item, length)
        if init is not None:
            for index, value in enumerate(init if is_array else (init,)):
                array[index] = value
        return array

    def string(self, cdata: Any, maxlen: int = -1) -> bytes:
        """The text of a char array or `char *`, up to its NUL or `maxlen` bytes."""
        if isinstance(cdata, Chars):
            data = bytes(cdata.data)
        elif isinstance(cdata, Pointer) and isinstance(cdata.target, (bytes, bytearray)):
            data = bytes(cdata.target)
        elif isinstance(cdata, Pointer) and isinstance(cdata.target, Chars):
            data = bytes(cdata.target.data)
        elif isinstance(cdata, Null):
            raise RuntimeError("cannot use string() on a null pointer")
        else:
            raise TypeError(f"string(): expected a char array or 'char *', not {type(cdata).__name__}")
        text = data.partition(b"\0")[0]
        return text if maxlen < 0 else text[:maxlen]

    def typeof(self, x: Any) -> Any:
        """The type named by a text; that of a value, of an opaque object, or of a function of `lib`."""
        if isinstance(x, str):
            return parse_ctype(x)
        if isinstance(x, CData):
            return x.ctype
        function_type = getattr(x, "type", None)
        if hasattr(function_type, "args"):
            return function_type
        from flux.core.kinds import opaque_ctype

        ctype = opaque_ctype(x)
        if ctype is None:
            raise TypeError(f"expected a ctype text, a cdata or an opaque object, not {type(x).__name__}")
        return ctype

    def cast(self, cdecl: str | CType, x: Any) -> Any:
        """`x` as another type: numbers wrap to the type's size, pointers stay what they are.

        An opaque object cast to an integer is its address; the address leads back to it while it lives.
        """
        ctype = parse_ctype(cdecl) if isinstance(cdecl, str) else cdecl
        name = ctype.cname
        if name.endswith("*"):
            if isinstance(x, (int, Number)):
                return self._at(ctype, int(x))
            if x is None or isinstance(x, Null):
                return NULL
            if isinstance(x, bytes):
                return Pointer(ctype, x)
            if isinstance(x, Pointer):
                return Pointer(ctype, x.target)
            return x
        if name in _FLOATS:
            return Number(ctype, float(x))
        if name in _BOOLS:
            return Number(ctype, bool(x))
        if name not in _INTEGERS:
            raise ValueError(f"the ffi shim cannot cast to '{name}'")
        if not isinstance(x, (int, float, Number, Null)):
            self._addresses[id(x)] = x
            x = id(x)
        bits = _INTEGERS[name]
        number = int(x) & ((1 << abs(bits)) - 1)
        if bits < 0 and number >> (-bits - 1):
            number -= 1 << -bits
        return Number(ctype, number)

    def _at(self, ctype: CType, address: int) -> Any:
        if address == 0:
            return NULL
        found = self._addresses.get(address)
        if found is None:
            raise ValueError(f"no object at {address:#x}: only addresses that cast() gave can be cast back")
        return found

    def new_handle(self, obj: Any) -> Pointer:
        """A `void *` that stands for a Python object, and keeps it alive."""
        return Pointer(_VOID_POINTER, obj)

    def from_handle(self, cdata: Any) -> Any:
        """The object that `new_handle` was given."""
        if not isinstance(cdata, Pointer):
            raise TypeError(f"expected what new_handle() returned, not {cdata!r}")
        return cdata.target

    def buffer(self, cdata: Any, size: int = -1) -> memoryview:
        """The bytes of a char array (writable) or `char *`, at most `size` of them."""
        if isinstance(cdata, Chars):
            view = memoryview(cdata.data)
        elif isinstance(cdata, Pointer) and isinstance(cdata.target, bytes):
            view = memoryview(cdata.target)
        else:
            raise TypeError(f"buffer(): expected a char array or 'char *', not {type(cdata).__name__}")
        return view if size < 0 else view[:size]


ffi = FFI()
