"""The classes of `flux.uri` (spec 04, section 6; spec 03, 14.12).

A target is text that stands for an instance: a URI of one already (``local:``, ``ssh:``), or ``SCHEME:WORDS`` for
the resolver plugin SCHEME, by default `jobid`. A plugin is a module SCHEME of the package `flux.uri.resolvers`
with a class `URIResolver`.

Rules:

- A URI is local (``local:///PATH``, a socket on this host) or remote (``ssh://HOST/PATH``); the two forms of the
  same instance differ in nothing but that.
- A target's query says which form is wanted: ``?local`` or ``?remote``. Other words of it are for the plugin.
"""

from __future__ import annotations

import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterable
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

__all__ = ["URI", "FluxURIResolver", "JobURI", "URIResolverPlugin", "URIResolverURI"]

_RESOLVERS = "flux.uri.resolvers"


class URI:
    """A URI, taken apart.

    Args:
        uri: text.

    Attributes:
        uri: the text.
        scheme, netloc, path, query, fragment: its parts, "" for those it has not.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.scheme, self.netloc, self.path, self.query, self.fragment = urlsplit(uri)

    def __str__(self) -> str:
        return self.uri

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"


class JobURI(URI):
    """The URI of an instance; its text is the local form if FLUX_URI_RESOLVE_LOCAL is in the environment.

    Args:
        uri: ``local://PATH`` or ``ssh://HOST/PATH``.
        remote_hostname: the host of a local `uri`, by default this one.

    Attributes:
        force_local: set to True for the local form as text in any case.
    """

    force_local = False

    def __init__(self, uri: str, remote_hostname: str | None = None) -> None:
        super().__init__(uri)
        self._hostname = remote_hostname

    def _check(self) -> None:
        if self.scheme not in ("local", "ssh"):
            raise ValueError(f"{self.uri} is neither a local nor an ssh URI")

    @property
    def remote(self) -> str:
        """``ssh://HOST/PATH``. Raises ValueError if this is no such URI."""
        self._check()
        if self.scheme == "ssh":
            return self.uri
        return f"ssh://{self._hostname or socket.gethostname()}{self.path}"

    @property
    def local(self) -> str:
        """``local:///PATH``. Raises ValueError if this is no such URI."""
        self._check()
        return f"local://{self.path}"

    @property
    def nearest(self) -> str:
        """What to connect to: the local form, where the instance is on this host, and else as the text."""
        here = self.scheme == "ssh" and self.netloc == socket.gethostname() and os.path.exists(self.path)
        return self.local if here else str(self)

    def __str__(self) -> str:
        if self.force_local or "FLUX_URI_RESOLVE_LOCAL" in os.environ:
            return self.local
        return self.uri


class URIResolverURI(URI):
    """A target as plugins get it. Its scheme is `jobid` if it names none.

    Attributes:
        query_dict: the words of the query, with the list of the values of each: ``{"wait": [""]}``.

    Raises ValueError if it wants to be both local and remote.
    """

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.scheme = self.scheme or "jobid"
        self.query_dict: dict[str, list[str]] = parse_qs(self.query, keep_blank_values=True)
        if "local" in self.query_dict and "remote" in self.query_dict:
            raise ValueError(f"{uri}: a URI is either local or remote, not both")


class URIResolverPlugin(ABC):
    """The base class of plugins, whose class is called `URIResolver`. One instance resolves any number of targets."""

    def __init__(self, *args: Any) -> None:
        super().__init__()

    @abstractmethod
    def describe(self) -> str:
        """One line on what is resolved, for help."""

    @abstractmethod
    def resolve(self, uri: URIResolverURI) -> JobURI:
        """The URI of the instance that `uri` stands for. Raises ValueError, with a sentence, if there is none."""


class FluxURIResolver:
    """Resolves targets.

    Args:
        pluginpath: directories with further plugins, at ``flux/uri/resolvers`` in them.
    """

    def __init__(self, pluginpath: Iterable[str] | None = None) -> None:
        self._path = list(pluginpath or ())
        self._loaded: dict[str, URIResolverPlugin] | None = None

    def _plugins(self) -> dict[str, URIResolverPlugin]:
        """By scheme. Loaded when first needed: a URI that is one already needs none."""
        if self._loaded is None:
            self._loaded = {
                name: module.URIResolver()
                for name, module in _resolver_modules(self._path).items()
                if hasattr(module, "URIResolver")
            }
        return self._loaded

    def resolve(self, uri: str) -> JobURI:
        """The URI of the instance that the target `uri` stands for.

        Raises:
            ValueError: it stands for none; the text says why.
            NotImplementedError: there is no plugin for its scheme.
            OSError: the enclosing instance, which knows about jobs, or a program that does cannot be asked.
            ImportError: a plugin cannot be loaded.
        """
        target = URIResolverURI(uri)
        if target.scheme in ("local", "ssh"):
            found = JobURI(f"{target.scheme}://{target.netloc}{target.path}")
        elif target.scheme in self._plugins():
            found = self._plugins()[target.scheme].resolve(target)
        else:
            raise NotImplementedError(f"No plugin for URI scheme {target.scheme}")
        if "local" in target.query_dict:
            return JobURI(found.local)
        if "remote" in target.query_dict:
            return JobURI(found.remote)
        return found

    def plugins(self) -> dict[str, str]:
        """What can be resolved: the description of each plugin, by scheme. Raises ImportError."""
        return {name: plugin.describe() for name, plugin in sorted(self._plugins().items())}


def _resolver_modules(pluginpath: list[str]) -> dict[str, ModuleType]:
    import flux.uri.resolvers
    from flux.importer import import_plugins_pkg

    package = flux.uri.resolvers
    own = list(package.__path__)
    # Not by way of sys.path: where the packages above look for their parts is settled when they are imported.
    package.__path__ = [*own, *(os.path.join(directory, *_RESOLVERS.split(".")) for directory in pluginpath)]
    try:
        return import_plugins_pkg(package)
    finally:
        package.__path__ = own
