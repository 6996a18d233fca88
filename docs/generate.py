"""Writes docs/reference/*.md from the docstrings: `python docs/generate.py`.

Rules:
- The files are checked in, and tests/test_docs.py holds them to the code: run this after changing a docstring.
- What is public is shown: names without an underscore that the module defines (and has in `__all__`, if there is
  one), and of a class what it defines itself. Signatures are read from the source, so that defaults have their names.
- The same output on every Python.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import re
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

REFERENCE = Path(__file__).parent / "reference"

#: File, title, module, and the names to show; none: all that are public.
PAGES: list[tuple[str, str, str, tuple[str, ...]]] = [
    ("handle", "flux.Flux: the handle", "flux.core.handle", ("Flux",)),
    ("message", "flux.message: messages and their watchers", "flux.message", ("Message", "MessageWatcher")),
    ("future", "flux.future: futures", "flux.future", ()),
    ("rpc", "flux.rpc: RPCs", "flux.rpc", ("RPC", "cancel_topic")),
    ("watchers", "flux.core.watchers: timers, descriptors, signals, loop hooks", "flux.core.watchers", ()),
    ("aio", "flux.aio: the handle under asyncio", "flux.aio", ()),
    ("brokermod", "flux.brokermod: broker modules", "flux.brokermod", ()),
]

_NOTE = (
    "<!-- Written by docs/generate.py from the docstrings of {module}; change those, then run it. -->\n\n"
    "# {title}\n\n"
    "Where a text says “spec 02, section 8” or the like it means the notes on the behaviour of flux-core 0.88 that\n"
    "Fluxlet was written from; they are not part of this repository. RFCs are those of the Flux project.\n"
)
_WIDTH = 110
#: The sections of a docstring that list names.
_LISTS = ("Args:", "Raises:")


def markdown(docstring: str | None) -> str:
    """A docstring as Markdown: double backticks become single ones, `Args:` a list."""
    lines = inspect.cleandoc(docstring or "").replace("``", "`").splitlines()
    out: list[str] = []
    in_list = False
    for line in lines:
        if line in _LISTS:
            in_list = True
            out += [f"**{line}**", ""]
        elif in_list and line.startswith("    "):
            item = re.fullmatch(r"    ([\w, *]+): (.*)", line)
            out.append(f"- `{item[1]}`: {item[2]}" if item else f"  {line.strip()}")
        else:
            in_list = in_list and not line
            out.append(line)
    return "\n".join(out)


def syntax(thing: Any) -> Any:
    """The parsed definition of a class or function."""
    return ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]


def parameters(arguments: ast.arguments) -> list[str]:
    """The parameters of a function as its source has them, without self and cls."""
    places = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(places) - len(arguments.defaults))
    found = [_parameter(*pair) for pair in zip(places, [*defaults, *arguments.defaults], strict=True)]
    if places and places[0].arg in ("self", "cls"):
        del found[0]
    if arguments.vararg is not None:
        found.append("*" + _parameter(arguments.vararg, None))
    elif arguments.kwonlyargs:
        found.append("*")
    found += [_parameter(*pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    if arguments.kwarg is not None:
        found.append("**" + _parameter(arguments.kwarg, None))
    return found


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    text = argument.arg
    if argument.annotation is not None:
        text += f": {ast.unparse(argument.annotation)}"
    if default is not None:
        text += f" = {ast.unparse(default)}" if argument.annotation is not None else f"={ast.unparse(default)}"
    return text


def signature(thing: Any, name: str, constructor: bool = False) -> str:
    """How a function is called, as a Markdown block; one parameter a line if they do not fit one."""
    definition = syntax(thing)
    words = parameters(definition.args)
    head = f"async {name}(" if isinstance(definition, ast.AsyncFunctionDef) else f"{name}("
    tail = ")" if definition.returns is None or constructor else f") -> {ast.unparse(definition.returns)}"
    line = head + ", ".join(words) + tail
    if len(line) > _WIDTH:
        line = head + "\n" + "".join(f"    {word},\n" for word in words) + tail
    return f"```text\n{line}\n```"


def attributes(cls: type) -> list[tuple[str, str]]:
    """Attributes that the class or its constructor documents with a string behind their assignment."""
    definition = syntax(cls)
    bodies = [definition.body]
    bodies += [node.body for node in definition.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    found = []
    for body in bodies:
        for statement, following in itertools.pairwise(body):
            target: ast.expr | None = None
            if isinstance(statement, ast.Assign):
                target = statement.targets[0]
            elif isinstance(statement, ast.AnnAssign):
                target = statement.target
            name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "_")
            if (
                not name.startswith("_")
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
                and isinstance(following.value.value, str)
            ):
                found.append((name, following.value.value))
    return found


def class_page(cls: type) -> list[str]:
    """A class: its constructor, attributes, properties and methods, in the order of the source."""
    bases = ", ".join(base.__name__ for base in cls.__bases__ if base is not object and base.__name__ != "Protocol")
    out = [f"## class {cls.__name__}" + (f"({bases})" if bases else "")]
    if "__init__" in vars(cls):
        out.append(signature(vars(cls)["__init__"], cls.__name__, constructor=True))
    out.append(markdown(cls.__doc__))
    for name, text in attributes(cls):
        out += [f"### {name}", markdown(text)]
    for name, member in vars(cls).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            returns = syntax(member.fget).returns
            kind = ast.unparse(returns) if returns is not None else ""
            settable = " (settable)" if member.fset is not None else ""
            out += [f"### {name}{settable}", f"```text\n{name}: {kind}\n```", markdown(member.__doc__)]
        else:
            function = inspect.unwrap(getattr(member, "__func__", member))
            own = inspect.isfunction(function) and function.__qualname__ == f"{cls.__name__}.{name}"
            if own and function.__doc__:
                out += [f"### {name}()", signature(function, name), markdown(function.__doc__)]
    return out


def defined_in(module: ModuleType) -> list[str]:
    """The public classes and functions of a module, in the order of the source."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    names = [node.name for node in ast.parse(inspect.getsource(module)).body if isinstance(node, kinds)]
    exported = getattr(module, "__all__", names)
    return [name for name in names if name in exported and not name.startswith("_")]


def page(title: str, module_name: str, names: tuple[str, ...]) -> str:
    """One page."""
    module = importlib.import_module(module_name)
    out = [_NOTE.format(module=module_name, title=title), markdown(module.__doc__)]
    for name in names or defined_in(module):
        thing = getattr(module, name)
        if isinstance(thing, type):
            out += class_page(thing)
        else:
            out += [f"## {name}()", signature(thing, name), markdown(thing.__doc__)]
    return "\n\n".join(part.strip("\n") for part in out if part.strip()) + "\n"


def pages() -> dict[str, str]:
    """All pages: file name and text."""
    return {f"{name}.md": page(title, module, names) for name, title, module, names in PAGES}


if __name__ == "__main__":
    REFERENCE.mkdir(exist_ok=True)
    for file_name, text in pages().items():
        (REFERENCE / file_name).write_text(text)
