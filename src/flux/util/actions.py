"""Actions for argparse that Flux's commands share (spec 02, 13.5).

Actions named Filter* leave ``filtered = True`` in the namespace: the tool tells that way that its user asked
for a selection, also where the value is the default.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from flux.util.treedict import dict_merge, set_treedict


class TreedictAction(argparse.Action):
    """``KEY=VALUE`` words to a nested dict by their dotted keys; values are JSON if they parse, else text.

    Needs `nargs`. Given several times, the option adds to the dict. A word without ``=`` is a ValueError.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        result: dict[str, Any] = dict_merge({}, getattr(namespace, self.dest, None) or {})
        for word in values:
            key, equals, value = word.partition("=")
            if not equals:
                raise ValueError(f"Missing required value for key {word}")
            with suppress(ValueError):  # what is no JSON is text
                value = json.loads(value)
            set_treedict(result, key, value)
        setattr(namespace, self.dest, result)


class FilterAction(argparse.Action):
    """Stores the value."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values)
        namespace.filtered = True


class FilterActionSetUpdate(argparse.Action):
    """Adds comma-separated words to a set."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        # A new set: the old one may be the default, which belongs to the parser.
        setattr(namespace, self.dest, {*(getattr(namespace, self.dest, None) or ()), *values.split(",")})
        namespace.filtered = True


class FilterActionUser(argparse.Action):
    """Stores the value, and tells by ``filtereduser`` that users were selected."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values)
        namespace.filtered = True
        namespace.filtereduser = True


class FilterTrueAction(argparse.Action):
    """Stores True (or `const`), as ``store_true`` does."""

    def __init__(
        self,
        option_strings: Sequence[str],
        dest: str,
        const: Any = True,
        default: Any = False,
        required: bool = False,
        help: str | None = None,
        metavar: str | None = None,
    ) -> None:
        super().__init__(
            option_strings=option_strings,
            dest=dest,
            nargs=0,
            const=const,
            default=default,
            required=required,
            help=help,
        )

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, self.const)
        namespace.filtered = True


class YesNoAction(argparse.Action):
    """Stores ``yes`` as True and ``no`` as False. Raises ValueError for anything else."""

    def __init__(
        self, option_strings: Sequence[str], dest: str, help: str | None = None, metavar: str = "[yes|no]"
    ) -> None:
        super().__init__(option_strings, dest, help=help, metavar=metavar)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        value: Any,
        option_string: str | None = None,
    ) -> None:
        if value not in ("yes", "no"):
            raise ValueError(f"{option_string} requires either 'yes' or 'no'")
        setattr(namespace, self.dest, value == "yes")


class ColorAction(argparse.Action):
    """``--color[=WHEN]``: when to use colour, as a text with the property `enabled`.

    Without WHEN it is ``always``; without the option ``auto``, or ``never`` if the environment has NO_COLOR.
    """

    class ColorWhen(str):
        """``auto``, ``always`` or ``never``."""

        __slots__ = ()

        @property
        def enabled(self) -> bool:
            """Whether to use colour on standard output."""
            return self == "always" or (self == "auto" and sys.stdout.isatty())

    def __init__(
        self,
        option_strings: Sequence[str],
        dest: str,
        nargs: str = "?",
        default: str = "auto",
        metavar: str = "WHEN",
        help: str = "Use color; WHEN can be 'never', 'always' or 'auto' (default)",
        **kwargs: Any,
    ) -> None:
        if default == "auto" and os.environ.get("NO_COLOR"):
            default = "never"
        super().__init__(
            option_strings,
            dest,
            nargs=nargs,
            default=self.ColorWhen(default),
            metavar=metavar,
            help=help,
            **kwargs,
        )

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        when = "always" if values is None else values
        if when not in ("auto", "always", "never"):
            parser.error(f"Invalid argument to {option_string}: '{when}'")
        setattr(namespace, self.dest, self.ColorWhen(when))
