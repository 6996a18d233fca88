"""How Flux's commands show their options in --help (spec 02, 13.5).

argparse has no public way to change how an option is written, so this overrides the method that every version
of it calls for that, and nothing else.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any


def help_formatter(argwidth: int = 40, raw_description: bool = False) -> Callable[..., argparse.HelpFormatter]:
    """A `formatter_class` that shows options as ``-x, --ex=N``.

    Args:
        argwidth: columns left for options before their help text.
        raw_description: keep the line breaks of descriptions.

    Options without a short form are indented as if they had one. Option strings that an action lists in its
    attribute `hidden_option_strings` are not shown.
    """
    formatter_class = _RawFluxHelp if raw_description else _FluxHelp
    width = _width()

    def make(prog: str, **kwargs: Any) -> argparse.HelpFormatter:
        return formatter_class(prog, max_help_position=argwidth, **{"width": width, **kwargs})

    return make


def _width() -> int:
    """The columns of help: as argparse has it, which reads the module shutil for that, in every command."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns) - 2
    try:
        return (os.get_terminal_size(sys.__stdout__.fileno()).columns or 80) - 2  # type: ignore[union-attr]
    except (AttributeError, ValueError, OSError):
        return 78  # stdout is no terminal


class _FluxHelp(argparse.HelpFormatter):
    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        hidden = getattr(action, "hidden_option_strings", ())
        options = [option for option in action.option_strings if option not in hidden]
        text = ", ".join(options)
        long = any(option.startswith("--") for option in options)
        if options and all(option.startswith("--") for option in options):
            text = "    " + text
        if action.nargs == 0:
            return text
        metavar = self._get_default_metavar_for_optional(action)
        return f"{text}{'=' if long else ' '}{self._format_args(action, metavar)}"


class _RawFluxHelp(_FluxHelp, argparse.RawDescriptionHelpFormatter):
    pass
