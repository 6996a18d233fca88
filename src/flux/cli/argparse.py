"""The argument parser of Flux's commands (spec 02, section 21).

Three things that argparse does not do: option strings that work but are not shown in help (`hidden_aliases`); option
parsing that ends at the first word that is no option (`posix`), for commands that run a command; and to say what an
unknown option may have been meant to be.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["FluxArgumentParser"]


class _HiddenAliases(argparse._ActionsContainer):
    """Adds `hidden_aliases` to `add_argument`."""

    def add_argument(self, *args: Any, hidden_aliases: Iterable[str] = (), **kwargs: Any) -> argparse.Action:
        """As argparse's. `hidden_aliases` are more option strings, which help does not show.

        Raises TypeError if `hidden_aliases` is a string: its letters would become options.
        """
        if isinstance(hidden_aliases, str):
            raise TypeError("hidden_aliases must be a list or tuple of option strings, not a string")
        hidden = tuple(hidden_aliases)
        if hidden and "dest" not in kwargs:
            kwargs["dest"] = self._shown_dest(args)
        action = super().add_argument(*args, *hidden, **kwargs)
        action.hidden_option_strings = hidden  # type: ignore[attr-defined]  # read by flux.util.help_formatter
        return action

    def _shown_dest(self, options: Sequence[str]) -> str:
        # argparse takes the first long option: with hidden ones in the list, that could be one of them.
        long = [option for option in options if len(option) > 2 and option[1] in self.prefix_chars]
        return (long or list(options))[0].lstrip(self.prefix_chars).replace("-", "_")


class _ExclusiveGroup(_HiddenAliases, argparse._MutuallyExclusiveGroup):
    pass


class _HasExclusiveGroups(_HiddenAliases):
    def add_mutually_exclusive_group(self, **kwargs: Any) -> argparse._MutuallyExclusiveGroup:
        """As argparse's; the group's `add_argument` takes `hidden_aliases`."""
        group = _ExclusiveGroup(self, **kwargs)
        self._mutually_exclusive_groups.append(group)
        return group


class _Group(_HasExclusiveGroups, argparse._ArgumentGroup):
    pass


class FluxArgumentParser(_HasExclusiveGroups, argparse.ArgumentParser):
    """An ArgumentParser with Flux's conventions: no abbreviated options, and help as `flux.util.help_formatter` has it.

    Args:
        posix: options end at the first word that is none. The rest goes, unchanged, to the positional with
            ``nargs=argparse.REMAINDER``; a ``--`` that ends the options is its first word.
        raw_description, argwidth: passed on to `help_formatter`, unless there is a `formatter_class`.
        args, kwargs: those of ArgumentParser.

    Subparsers are of the same class.
    """

    def __init__(
        self,
        *args: Any,
        posix: bool = False,
        raw_description: bool = False,
        argwidth: int = 40,
        **kwargs: Any,
    ) -> None:
        if "formatter_class" not in kwargs:
            from flux.util import help_formatter

            kwargs["formatter_class"] = help_formatter(argwidth=argwidth, raw_description=raw_description)
        kwargs.setdefault("allow_abbrev", False)
        self.posix = posix
        super().__init__(*args, **kwargs)

    def add_argument_group(self, *args: Any, **kwargs: Any) -> argparse._ArgumentGroup:
        """As argparse's; the group's `add_argument` takes `hidden_aliases`."""
        group = _Group(self, *args, **kwargs)
        self._action_groups.append(group)
        return group

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]  # as above
        """As argparse's; what is unknown ends the program."""
        namespace, unknown = self.parse_known_args(args, namespace)
        if unknown:
            option = next((word.partition("=")[0] for word in unknown if word.startswith("--") and word != "--"), "")
            meant = self._meant(option) if option else []
            if meant:  # above the error, which is the last line wherever scripts look for it
                print(f"{self.prog}: there is no {option}, only {' and '.join(meant)}", file=sys.stderr)
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace

    def _meant(self, option: str) -> list[str]:
        """What an unknown option could be: older releases took abbreviations, and scripts have them."""
        known = sorted(
            string
            for string, action in self._option_string_actions.items()
            if string.startswith("--") and string not in getattr(action, "hidden_option_strings", ())
        )
        longer = [string for string in known if string.startswith(option)]
        if longer:
            return longer if len(longer) < 4 else []
        from difflib import get_close_matches

        ends = [string for string in known if string.endswith(option[1:])]
        return ends or get_close_matches(option, known, 1, 0.8)

    def parse_known_args(  # type: ignore[override]  # typeshed has overloads for the namespace's type
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """As argparse's, but for `posix`. `parse_args` comes here too, and so do subcommands."""
        words = list(sys.argv[1:] if args is None else args)
        positionals = self._get_positional_actions()
        if not self.posix or any(action.nargs == argparse.PARSER for action in positionals):
            # A subcommand takes all that follows it, as it is.
            return super().parse_known_args(words, namespace)
        end = self._end_of_options(words)
        options, rest = words[:end], words[end:]
        remainder = next((action for action in positionals if action.nargs == argparse.REMAINDER), None)
        before = positionals[: positionals.index(remainder)] if remainder else positionals
        taken, rest = _split_positionals(before, rest)
        if taken:
            options += ["--", *taken]
        namespace, unknown = super().parse_known_args(options, namespace)
        if rest and remainder is not None:
            remainder(self, namespace, rest, None)
            return namespace, unknown
        return namespace, [*unknown, *rest]

    def _is_option(self, word: str) -> bool:
        if len(word) < 2 or word[0] not in self.prefix_chars:
            return False
        # As argparse: -1 is a number, unless there are options that look like one.
        return bool(self._has_negative_number_optionals) or not self._negative_number_matcher.match(word)

    def _end_of_options(self, words: Sequence[str]) -> int:
        """The index of the first word that is neither an option nor a value of one."""
        at = 0
        while at < len(words) and words[at] != "--" and self._is_option(words[at]):
            action = self._waiting_option(words[at])
            at += 1
            if action is not None:
                at += self._values_of(action, words[at:])
        return min(at, len(words))

    def _waiting_option(self, word: str) -> argparse.Action | None:
        """The option in `word` whose values are in the words after it."""
        known = self._option_string_actions
        if word in known:
            return known[word]
        if word[1] in self.prefix_chars:
            return None  # --option=value, or unknown
        for at in range(1, len(word)):  # -abc: flags, the last of which may take values
            action = known.get(word[0] + word[at])
            if action is None:
                return None
            if action.nargs != 0:
                return action if at == len(word) - 1 else None
        return None

    def _values_of(self, action: argparse.Action, words: Sequence[str]) -> int:
        """How many of `words`, which follow an option, are its values."""
        if action.nargs is None:
            return 1
        if isinstance(action.nargs, int):
            return action.nargs
        if action.nargs == argparse.OPTIONAL:
            return 1 if words and not self._is_option(words[0]) else 0
        return next((at for at, word in enumerate(words) if self._is_option(word)), len(words))


def _split_positionals(positionals: Sequence[argparse.Action], words: list[str]) -> tuple[list[str], list[str]]:
    """The words for `positionals`, and those for what follows them."""
    if not positionals:
        return [], words
    if words[:1] == ["--"]:
        words = words[1:]
    count = 0
    for action in positionals:
        if isinstance(action.nargs, int):
            count += action.nargs
        elif action.nargs is None or action.nargs == argparse.OPTIONAL:
            count += 1
        else:
            count = len(words)
    return words[:count], words[count:]
