"""A command line whose words stand for many (spec 08, 6.3): ``flux bulksubmit`` replaces ``{}`` in them by its inputs,
and ``{cc}`` in what comes of that is replaced by the ids of ``--cc``.

- An option that no replacement changes is kept once, by the options that a Variant is made of.
- Double braces are for the job's shell: ``{{id}}`` stays as it is.
- Inputs are replaced as `str.format` does it: a brace that is none of it is an error. With ``--cc``, what is not
  ``{cc}`` stays as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

#: ``{cc}``, and with a format: ``{cc:03}``.
_CC = re.compile(r"(?<!\{)\{cc(?:!([rsa]))?(?::([^{}]*))?\}(?!\})")
#: Two braces that close, the last ones of several: the first may be that of a field.
_OPENING, _CLOSING = re.compile(r"\{\{"), re.compile(r"\}\}(?!\})")
#: A field of the only input, which need not be numbered.
_UNNUMBERED = re.compile(r"\{(?=[.!:}])")
#: A word that is one field and nothing else.
_FIELD = re.compile(r"\{[^{}]*\}")


class ReplacementError(ValueError):
    """A command line with a replacement that cannot be made: its inputs do not have that."""


class InputError(ValueError):
    """An attribute of an input that there is not, or that cannot be had."""


# By ids.


def _id_text(match: re.Match[str], cc: str) -> str:
    conversion, spec = match[1], match[2]
    if conversion is None and spec is None:
        return cc
    form = match[0].replace("{cc", "{", 1)
    if conversion is None and cc.isdigit():
        # Ids are numbers, {cc:03}, as long as the form is not one for text.
        try:
            return form.format(int(cc))
        except ValueError:
            pass
    return form.format(cc)


def replaced(value: Any, cc: str) -> Any:
    """A value of an option, or the words of a command, for one id of ``--cc``. Raises ValueError for a bad format."""
    if isinstance(value, str):
        return _CC.sub(lambda match: _id_text(match, cc), value)
    if isinstance(value, list):
        return [replaced(item, cc) for item in value]
    return value


def mentions_id(value: Any) -> bool:
    """Whether ``{cc}`` is in the value of an option, or in the words of a command."""
    if isinstance(value, str):
        return _CC.search(value) is not None
    return isinstance(value, list) and any(mentions_id(item) for item in value)


class _Id:
    """A field that stays as it is, or that nothing takes the place of."""

    def __init__(self, stays: bool) -> None:
        self._stays = stays

    def __format__(self, spec: str) -> str:
        return "" if not self._stays else f"{{cc:{spec}}}" if spec else "{cc}"


def cc_field(args: Any) -> object:
    """What stands for ``{cc}`` while inputs are replaced: itself where there are ids, else nothing."""
    return _Id(bool(args.cc or args.bcc))


# By inputs.


class Variant:
    """The options of a command line, some of them changed.

    Args:
        args: the options, or a variant of them.
        changes: names and values of those that differ.

    Attributes:
        base: the options that all variants have in common.
        changes: names and values of all those that differ from `base`.
    """

    base: Any
    changes: dict[str, Any]

    def __init__(self, args: Any, changes: Mapping[str, Any]) -> None:
        if isinstance(args, Variant):
            self.base = args.base
            self.changes = {**args.changes, **changes}
        else:
            self.base = args
            self.changes = dict(changes)

    def __getattr__(self, attr: str) -> Any:
        # Only for what is no attribute. Python itself asks for names with underscores, before there are any of ours.
        if attr.startswith("__"):
            raise AttributeError(attr)
        changes = self.changes
        return changes[attr] if attr in changes else getattr(self.base, attr)


class Xcmd(Variant):
    """A command line, its options and command, with inputs replaced in it.

    Args:
        args: the options, with replacements.
        inputs: what they are replaced by.
        kwargs: more of that, by name: ``seq``, and the function ``define_NAME`` for each attribute of ``--define``.

    Raises:
        ReplacementError: there is no such input.
        InputError: no such attribute of an input.
    """

    #: The options in which inputs are replaced, and how they are written.
    mutable_args = {
        "queue": "-q",
        "bank": "-B",
        "ntasks": "-n",
        "nodes": "-N",
        "cores_per_task": "-c",
        "gpus_per_task": "-g",
        "cores": "--cores=",
        "tasks_per_node": "--tasks-per-node=",
        "tasks_per_core": "--tasks-per-core=",
        "gpus_per_node": "--gpus-per-node=",
        "time_limit": "-t",
        "env": "--env=",
        "urgency": "--urgency=",
        "setopt": "-o",
        "setattr": "-S",
        "job_name": "--job-name=",
        "input": "--input=",
        "output": "--output=",
        "error": "--error=",
        "cc": "--cc=",
        "bcc": "--bcc=",
        "log": "--log=",
        "log_stderr": "--log-stderr=",
        "dependency": "--dependency=",
        "taskmap": "--taskmap=",
        "requires": "--requires=",
        "wait_event": "--wait-event=",
        "cwd": "--cwd=",
        "flags": "--flags=",
        "begin_time": "--begin-time=",
        "signal": "--signal=",
        "rlimit": "--rlimit=",
        "add_file": "--add-file=",
    }
    _DEFAULTS = {"urgency": "16"}

    class Xinput:
        """An input: its text, and what else is known of it as attributes whose names are no names (``{0./}``).

        Args:
            arg: the text.
            definitions: functions of the text, by name; they are attributes, too.
            lists: what is put into a text, and is a list, is added here.
        """

        _METHODS: Mapping[str, Callable[[str], str]] = {
            "%": lambda text: os.path.splitext(text)[0],
            "/": os.path.basename,
            "//": os.path.dirname,
            "/%": lambda text: os.path.splitext(os.path.basename(text))[0],
        }

        def __init__(self, arg: str, definitions: Mapping[str, Callable[[str], Any]], lists: list[Any]) -> None:
            self._text = arg
            self._definitions = definitions
            self._lists = lists

        def __str__(self) -> str:
            return self._text

        def __repr__(self) -> str:
            return repr(self._text)

        def __format__(self, spec: str) -> str:
            return format(self._text, spec)

        def __getattr__(self, attr: str) -> Any:
            if attr.startswith("__"):
                raise AttributeError(attr)
            function = self._definitions.get(attr) or self._METHODS.get(attr)
            if function is None:
                raise InputError(f"Unknown input string method '.{attr}'")
            found = function(self._text)
            return _Words(found, self._lists) if isinstance(found, (list, tuple)) else found

    @staticmethod
    def preserve_mustache(val: str) -> str:
        """A text without double braces: something that is no text of a command line stands for them."""
        return _CLOSING.sub("\0\2", _OPENING.sub("\0\1", val)) if "{{" in val or "}}" in val else val

    @staticmethod
    def restore_mustache(val: str) -> str:
        """The text again."""
        return val.replace("\0\1", "{{").replace("\0\2", "}}") if "\0" in val else val

    def __init__(self, args: Any, inputs: Sequence[str] | None = None, **kwargs: Any) -> None:
        definitions = {
            name.removeprefix("define_"): kwargs.pop(name) for name in [*kwargs] if name.startswith("define_")
        }
        lists: list[_Words] = []
        replace = _Replacing([self.Xinput(text, definitions, lists) for text in inputs or ()], kwargs, lists)
        super().__init__(args, {"command": replace.command(args.command)})
        for name, option in self.mutable_args.items():
            value = getattr(args, name, None)
            if value is not None and _has_brace(value):
                self.changes[name] = replace.option(option, value)

    def __str__(self) -> str:
        """The command line, without the options that have their default value."""
        words = []
        for name, option in self.mutable_args.items():
            value = getattr(self, name, None)
            if value is None or value == self._DEFAULTS.get(name):
                continue
            words += [f"{option}{item}" for item in (value if isinstance(value, list) else [value])]
        return " ".join([*words, *self.command])


def _has_brace(value: Any) -> bool:
    if isinstance(value, str):
        return "{" in value or "}" in value
    return isinstance(value, list) and any(_has_brace(item) for item in value)


class _Words(list[Any]):
    """What ``--define`` gives as a list."""

    def __init__(self, words: Sequence[Any], lists: list[_Words]) -> None:
        super().__init__(words)
        self._lists = lists

    def __format__(self, spec: str) -> str:
        self._lists.append(self)
        return " ".join(format(item, spec) for item in self)


class _Replacing:
    """Replaces inputs in words.

    Args:
        fields, names: what there is to be put into them.
        lists: where what is a list is noted when it is put into one.
    """

    def __init__(self, fields: Sequence[Xcmd.Xinput], names: Mapping[str, Any], lists: list[_Words]) -> None:
        self._fields = fields
        self._names = names
        self._lists = lists

    def _words(self, text: str) -> list[str]:
        """What comes of one word: several, if it is nothing but an attribute that is a list."""
        if "{" not in text and "}" not in text:
            return [text]
        kept = Xcmd.preserve_mustache(text)
        if len(self._fields) == 1:
            kept = _UNNUMBERED.sub("{0", kept)
        self._lists.clear()
        result = kept.format(*self._fields, **self._names)
        if self._lists and _FIELD.fullmatch(kept):
            return [str(word) for word in self._lists[0]]
        return [Xcmd.restore_mustache(result)]

    def command(self, command: Sequence[str]) -> list[str]:
        """The words of a command. Raises as Xcmd does."""
        words = []
        for word in command:
            try:
                words += self._words(word)
            except InputError:
                raise
            except (LookupError, ValueError, TypeError, AttributeError):
                raise ReplacementError(f"Invalid replacement string in command: '{word}'") from None
        return words

    def option(self, option: str, value: Any) -> Any:
        """The value of an option. Raises as Xcmd does, and names the option as it is written."""
        found: list[str] = []
        for text in value if isinstance(value, list) else [value]:
            try:
                found += self._words(text)
            except InputError:
                raise
            except KeyError as exc:
                raise ReplacementError(f"Replacement key {exc} not found in '{option}{text}'") from None
            except IndexError:
                # With one quotation mark, as in the reference.
                raise ReplacementError(f"Invalid replacement index in {option}{text}'") from None
            except (ValueError, TypeError, AttributeError) as exc:
                raise ReplacementError(f"Invalid replacement string in '{option}{text}': {exc}") from None
        return found if isinstance(value, list) else " ".join(found)
