"""Our modules offer what flux-core's do: names, signatures, bases, members and values of tests/spec/api.json.

The format is spec 02, section 22. The table below lists the modules that are complete: a module is added when it is
written, and none is ever taken out.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

MODULES = [
    "flux",
    "flux.abc",
    "flux.abc.journal",
    "flux.brokermod",
    "flux.cli",
    "flux.cli.alloc",
    "flux.cli.argparse",
    "flux.cli.base",
    "flux.cli.batch",
    "flux.cli.bulksubmit",
    "flux.cli.plugin",
    "flux.cli.run",
    "flux.cli.submit",
    "flux.compat36",
    "flux.conf_builtin",
    "flux.constants",
    "flux.constraint",
    "flux.constraint.parser",
    "flux.core",
    "flux.core.handle",
    "flux.core.inner",
    "flux.core.trampoline",
    "flux.core.watchers",
    "flux.debugged",
    "flux.eventlog",
    "flux.future",
    "flux.hostlist",
    "flux.idset",
    "flux.importer",
    "flux.job",
    "flux.job.JobID",
    "flux.job.Jobspec",
    "flux.job._utils",
    "flux.job.directives",
    "flux.job.event",
    "flux.job.executor",
    "flux.job.info",
    "flux.job.journal",
    "flux.job.kill",
    "flux.job.kvs",
    "flux.job.kvslookup",
    "flux.job.list",
    "flux.job.output",
    "flux.job.stats",
    "flux.job.submit",
    "flux.job.timeleft",
    "flux.job.wait",
    "flux.job.watcher",
    "flux.kvs",
    "flux.memoized_property",
    "flux.message",
    "flux.modprobe",
    "flux.proctitle",
    "flux.progress",
    "flux.queue",
    "flux.resource",
    "flux.resource.ResourceCount",
    "flux.resource.ResourcePool",
    "flux.resource.ResourcePoolImplementation",
    "flux.resource.ResourceSet",
    "flux.resource.ResourceSetImplementation",
    "flux.resource.Rv1Pool",
    "flux.resource.Rv1Set",
    "flux.resource.journal",
    "flux.resource.list",
    "flux.resource.status",
    "flux.rpc",
    "flux.scheduler",
    "flux.shape",
    "flux.shape.parser",
    "flux.subprocess",
    "flux.testing",
    "flux.testing.fake_resources",
    "flux.uri",
    "flux.uri.uri",
    "flux.util",
    "flux.wrapper",
]

API: dict[str, Any] = json.loads((Path(__file__).parent / "spec" / "api.json").read_text())

# These defaults are the userid of who imports the module.
API["modules"]["flux.kvs"]["namespace_create"]["params"][2] = f"owner={os.getuid()}"
API["modules"]["flux.job.list"]["job_list"]["params"][3] = f"userid={os.getuid()}"

KINDS = inspect.Parameter
_MISSING = object()


@pytest.mark.parametrize("module", MODULES)
def test_module_offers_what_the_reference_does(module: str) -> None:
    problems = module_problems(module)
    assert not problems, "\n" + "\n".join(problems)


def test_every_module_of_the_table_is_in_the_inventory() -> None:
    assert set(MODULES) <= set(API["modules"])
    assert sorted(set(MODULES)) == MODULES


def module_problems(module: str) -> list[str]:
    """What is missing or different, a line each."""
    ours = importlib.import_module(module)
    problems: list[str] = []
    for name, entry in API["modules"][module].items():
        where = f"{module}.{name}"
        thing = getattr(ours, name, _MISSING)
        if thing is _MISSING:
            # Rarely used names may be absent, but if there they must be right.
            if entry["tier"] != "rare":
                problems.append(f"{where}: missing ({entry['tier']})")
            continue
        problems += entry_problems(where, entry, thing)
    return problems


def entry_problems(where: str, entry: dict[str, Any], thing: Any) -> Iterator[str]:
    match entry["kind"]:
        case "function":
            if not callable(thing):
                yield f"{where}: not callable"
            elif not (where == "flux.Flux" and inspect.isclass(thing)):  # ours is the class itself
                yield from signature_problems(where, entry["params"], thing)
        case "class":
            yield from class_problems(where, entry, thing)
        case "data":
            if "value" in entry and plain(thing) != entry["value"]:
                yield f"{where}: {thing!r}, not {entry['value']!r}"
        case "alias":
            if thing is not resolve(entry["of"]):
                yield f"{where}: not the same object as {entry['of']}"
        case kind:
            yield f"{where}: unknown kind {kind}"


def class_problems(where: str, entry: dict[str, Any], cls: Any) -> Iterator[str]:
    if not inspect.isclass(cls):
        yield f"{where}: not a class"
        return
    for base in entry.get("bases", ()):
        if not issubclass(cls, resolve(base)):
            yield f"{where}: does not derive from {base}"
    for name, member in entry.get("members", {}).items():
        tier = member.get("tier", entry["tier"])
        # Statically: a property must not be run, and a method not be bound.
        thing = inspect.getattr_static(cls, name, _MISSING)
        if thing is _MISSING:
            if tier != "rare":
                yield f"{where}.{name}: missing ({tier})"
            continue
        yield from member_problems(f"{where}.{name}", member, cls, thing)


def member_problems(where: str, member: dict[str, Any], cls: type, thing: Any) -> Iterator[str]:
    value = getattr(cls, where.rpartition(".")[2])
    match member["kind"]:
        case "method":
            if isinstance(thing, (classmethod, staticmethod)) or not callable(value):
                yield f"{where}: not a method"
            else:
                yield from signature_problems(where, member["params"], value, skip=1)
        case "classmethod":
            if not inspect.ismethod(value):
                yield f"{where}: not a class method"
            else:
                yield from signature_problems(where, member["params"], value)
        case "staticmethod":
            if not isinstance(thing, staticmethod):
                yield f"{where}: not a static method"
            else:
                yield from signature_problems(where, member["params"], value)
        case "property":
            if not inspect.isdatadescriptor(thing):
                # A plain attribute can be read and set, so it is more than a property.
                if callable(thing) and not inspect.isclass(thing):
                    yield f"{where}: a method, not a property"
            elif member["settable"] and isinstance(thing, property) and thing.fset is None:
                yield f"{where}: cannot be set"
        case "attribute":
            if "value" in member and plain(value) != member["value"]:
                yield f"{where}: {value!r}, not {member['value']!r}"
        case "class":
            if not inspect.isclass(value):
                yield f"{where}: not a class"
        case "none":
            if value is not None:
                yield f"{where}: not None"
        case kind:
            yield f"{where}: unknown kind {kind}"


def signature_problems(where: str, wanted: list[str], function: Any, skip: int = 0) -> Iterator[str]:
    """Compares names, order, kinds and literal defaults. Ours may have further optional parameters at the end."""
    try:
        ours = list(inspect.signature(function).parameters.values())[skip:]
    except ValueError:
        yield f"{where}: no signature"
        return
    theirs = parse(wanted)
    text = f"{where}({', '.join(map(str, ours))}), not ({', '.join(wanted)})"
    for at, (name, kind, default) in enumerate(theirs):
        if at >= len(ours) or ours[at].name != name or ours[at].kind != kind:
            yield text
            return
        found = None if ours[at].default is KINDS.empty else repr(plain_default(ours[at].default))
        if found is None or default in (None, "?"):
            same = (found is None) == (default is None)
        else:
            same = found == default
        if not same:
            yield f"{text}: default of {name}"
    for extra in ours[len(theirs) :]:
        if extra.default is KINDS.empty and extra.kind not in (KINDS.VAR_KEYWORD, KINDS.VAR_POSITIONAL):
            yield f"{text}: {extra.name} is required"


def parse(wanted: list[str]) -> list[tuple[str, Any, str | None]]:
    """Parameters of the inventory as (name, kind, default); default None: required or variadic."""
    result: list[tuple[str, Any, str | None]] = []
    kind = KINDS.POSITIONAL_OR_KEYWORD
    for text in wanted:
        if text == "/":
            result = [(name, KINDS.POSITIONAL_ONLY, default) for name, _, default in result]
        elif text == "*":
            kind = KINDS.KEYWORD_ONLY
        elif text.startswith("**"):
            result.append((text[2:], KINDS.VAR_KEYWORD, None))
        elif text.startswith("*"):
            result.append((text[1:], KINDS.VAR_POSITIONAL, None))
            kind = KINDS.KEYWORD_ONLY
        else:
            name, equals, default = text.partition("=")
            result.append((name, kind, default if equals else None))
    return result


def plain(value: Any) -> Any:
    """A value as JSON holds it."""
    return json.loads(json.dumps(value)) if isinstance(value, (tuple, list, dict)) else value


def plain_default(value: Any) -> Any:
    """A default as its repr is in the inventory: the value of an enum or of a subclass of a builtin."""
    for builtin in (int, str):
        if isinstance(value, builtin) and not isinstance(value, bool):
            return builtin(value)
    return value


def resolve(qualified: str) -> Any:
    """The object called ``module.name``, or the builtin called ``name``."""
    module, _, name = qualified.rpartition(".")
    return getattr(importlib.import_module(module or "builtins"), name)


class Sample:
    """What the self-tests below compare with entries."""

    value = 1
    __hash__ = None  # type: ignore[assignment]

    class Inner:
        pass

    def method(self, a: int, b: str = "x", *args: int, c: bool = True, **kwargs: int) -> None:
        pass

    def longer(self, a: int, b: object = None, extra: int = 0) -> None:
        pass

    @classmethod
    def made(cls, a: int) -> None:
        pass

    @staticmethod
    def static(a: int) -> None:
        pass

    @property
    def fixed(self) -> int:
        raise AssertionError("a property must not be run")


def sample(name: str, **member: Any) -> dict[str, Any]:
    return {"kind": "class", "tier": "must", "members": {name: member}}


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (sample("method", kind="method", params=["a", "b='x'", "*args", "c=True", "**kwargs"]), None),
        (sample("method", kind="method", params=["a", "b=?", "*args", "c=True", "**kwargs"]), None),
        (sample("method", kind="method", params=["a", "b='y'", "*args", "c=True", "**kwargs"]), "default of b"),
        (sample("method", kind="method", params=["a", "b", "*args", "c=True", "**kwargs"]), "default of b"),
        (sample("method", kind="method", params=["a=1", "b='x'", "*args", "c=True", "**kwargs"]), "default of a"),
        (sample("method", kind="method", params=["b='x'", "a"]), "not (b='x', a)"),
        (sample("method", kind="method", params=["a", "b='x'", "c=True"]), "not (a, b='x', c=True)"),
        (sample("method", kind="method", params=["a", "/", "b='x'"]), "not (a, /, b='x')"),
        (sample("method", kind="method", params=["a", "b='x'", "*", "c=True"]), "not (a, b='x', *, c=True)"),
        (sample("longer", kind="method", params=["a", "b=None"]), None),
        (sample("longer", kind="method", params=[]), "a is required"),
        (sample("longer", kind="method", params=["a", "b=None", "extra=0", "more=0"]), "more=0)"),
        (sample("made", kind="classmethod", params=["a"]), None),
        (sample("made", kind="method", params=["a"]), "not a method"),
        (sample("method", kind="classmethod", params=["a"]), "not a class method"),
        (sample("static", kind="staticmethod", params=["a"]), None),
        (sample("static", kind="staticmethod", params=["b"]), "not (b)"),
        (sample("method", kind="staticmethod", params=["a"]), "not a static method"),
        (sample("fixed", kind="property", settable=False), None),
        (sample("fixed", kind="property", settable=True), "cannot be set"),
        (sample("method", kind="property", settable=False), "a method, not a property"),
        (sample("value", kind="attribute", value=1), None),
        (sample("value", kind="attribute", value=2), "1, not 2"),
        (sample("Inner", kind="class"), None),
        (sample("value", kind="class"), "not a class"),
        (sample("__hash__", kind="none"), None),
        (sample("value", kind="none"), "not None"),
        (sample("absent", kind="class"), "missing (must)"),
        (sample("absent", kind="class", tier="rare"), None),
        ({"kind": "class", "tier": "must", "bases": ["dict"]}, "does not derive from dict"),
        ({"kind": "alias", "tier": "must", "of": "json.loads"}, "not the same object as json.loads"),
        ({"kind": "data", "tier": "must", "value": 3}, "not 3"),
        ({"kind": "data", "tier": "must", "type": "set"}, None),
    ],
)
def test_the_comparison_sees_a_difference(entry: dict[str, Any], problem: str | None) -> None:
    problems = list(entry_problems("sample.Sample", entry, Sample))
    if problem is None:
        assert problems == []
    else:
        assert len(problems) == 1
        assert problem in problems[0]


def test_the_comparison_sees_what_is_no_class_and_no_function() -> None:
    assert list(entry_problems("m.x", {"kind": "class", "tier": "must"}, 1)) == ["m.x: not a class"]
    assert list(entry_problems("m.x", {"kind": "function", "tier": "must", "params": []}, 1)) == ["m.x: not callable"]
