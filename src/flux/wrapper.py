"""The errors of the reference's C wrapper, and the bases its objects share.

The reference wraps a C library with cffi; programs catch the errors that its wrapper raises, so they
exist here under the same names with the same words in their texts (spec 02, section 11).
"""

from __future__ import annotations

import errno as _errno
import os
from typing import Any


def strerror(errnum: int) -> str:
    """The text of an errno as the reference gives it (unknown numbers: ``Unknown error N``)."""
    return os.strerror(errnum)


def local_error(errnum: int) -> OSError:
    """An error of shape A (spec 02, 0.1): ``OSError(n, "NAME: text")``, for a call that failed locally."""
    name = _errno.errorcode.get(errnum, f"Errno{errnum}")
    return OSError(errnum, f"{name}: {os.strerror(errnum)}")


class InvalidArguments(ValueError):
    """An argument is of a kind that the wrapped C function does not take."""

    def __init__(self, name: str, signature: str, arguments: Any) -> None:
        super().__init__(
            f"Invalid arguments passed to wrapped C function:\nName: {name}\n"
            f"C signature: {signature}\nArguments: {arguments}"
        )


class WrongNumArguments(ValueError):
    """A wrapped C function was called with too few or too many arguments."""

    def __init__(self, name: str, signature: str, ftype: Any, arguments: Any, htype: Any) -> None:
        expected = ftype if isinstance(ftype, int) else len(ftype.args)
        super().__init__(
            f"Expected {expected} arguments, received {len(arguments)}\n\nName: {name}\n"
            f"C signature: {signature}\nArguments: {arguments}\nHandle type: {htype}"
        )


class WrapperBase:
    """An object with an opaque handle."""

    __slots__ = ()


class WrapperPimpl(WrapperBase):
    """An object whose opaque handle lives in its `pimpl`; leaving its context closes that."""

    __slots__ = ()


class Wrapper(WrapperBase):
    """An object whose unknown attributes are looked up among the C library's functions and constants."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        from flux.core import dynamic

        return dynamic.handle_attribute(self, name)
