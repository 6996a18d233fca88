"""The `pimpl` of an object that is all Python: C functions by name, with the object implied (spec 02, 9.3).

A subclass has one method for each function, named without the prefix. The opaque handle is the data structure that the
owner keeps in one attribute, so that two objects given the same handle share it. A closed owner has no such attribute.
"""

from __future__ import annotations

from typing import Any, ClassVar

from flux.wrapper import NULL_HANDLE_TEXT, ErrorPrinter, InvalidArguments, Wrapper


class OwnerPimpl(Wrapper):
    """Calls on the opaque part of `owner`, whose handle it shares."""

    #: Where the owner keeps its opaque part.
    attribute: ClassVar[str]
    #: What that part is.
    handle_type: ClassVar[type]
    #: C functions of this prefix whose first parameter is something else.
    not_methods: ClassVar[tuple[str, ...]]

    def __init__(self, owner: Any) -> None:
        self._owner = owner

    @property
    def handle(self) -> Any:
        """The opaque part; None once closed. TypeError if set to what is no handle of this kind."""
        return self._owner.__dict__.get(self.attribute)

    @handle.setter
    def handle(self, handle: Any) -> None:
        if handle is None:
            self._owner.__dict__.pop(self.attribute, None)
        elif isinstance(handle, self.handle_type):
            setattr(self._owner, self.attribute, handle)
        else:
            raise TypeError(f"expected the handle of another {type(self._owner).__name__}, got {type(handle)}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        prefix = self.prefixes[0]
        bare = name.removeprefix(prefix)
        if bare in self.not_methods:
            owner = type(self._owner).__name__
            raise AttributeError(
                f"{owner}.pimpl.{name} masks function {prefix}{bare}, whose first parameter is another"
            )
        if bare != name and bare in type(self).__dict__:
            return getattr(self, bare)
        return ErrorPrinter(name, self.prefixes)

    def opaque(self, function: str, argument: Any) -> Any:
        """The handle of an argument of `function`, or the handle that it is (spec 02, 0.2).

        Raises InvalidArguments if it is neither.
        """
        handle = getattr(argument, "handle", argument)
        if not isinstance(handle, self.handle_type):
            raise InvalidArguments(function, f"{function}({self.handle_type.__name__} *, ...)", (argument,))
        return handle


def closed(owner: object, name: str, attribute: str) -> Exception:
    """What an owner's ``__getattr__`` raises for `name`; `attribute` is where its opaque part was."""
    if name == attribute:
        return ValueError(NULL_HANDLE_TEXT)
    return AttributeError(f"'{type(owner).__name__}' object has no attribute '{name}'")
