"""A task of start-up or shutdown: a function, or a module to load or remove.

A task says what it requires, what it needs, and what it comes before and after, by the names of tasks, modules, or
services that they provide. See flux-modprobe(1).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flux.modprobe.ranks import rank_conditional

if TYPE_CHECKING:
    from flux.modprobe.context import Context

#: What is said with a list of names.
_LISTS = ("provides", "requires", "needs", "before", "after", "needs_attrs", "needs_config", "needs_env")
#: The place in an order before or after all others.
EVERYTHING = "*"


class Task:
    """A task that does nothing: it may stand for a place in the order.

    Args:
        name: what others call it.
        kwargs: those of VALID_ARGS.

    Raises ValueError for another argument, or one that will not do.
    """

    VALID_ARGS: dict[str, Any] = {"ranks": "all", "priority": 100, **dict.fromkeys(_LISTS, ())}

    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        unknown = [key for key in kwargs if key not in self.VALID_ARGS]
        if unknown:
            raise ValueError(f"{name}: unknown task argument: {', '.join(unknown)}")
        self.name = name
        values = {**self.VALID_ARGS, **kwargs}
        for key in _LISTS:
            value = values[key]
            if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
                raise ValueError(f"{name}: {key} must be a list of strings")
        if not isinstance(values["priority"], int) or isinstance(values["priority"], bool):
            raise ValueError(f"{name}: priority must be an integer")
        if not isinstance(values["ranks"], str):
            raise ValueError(f"{name}: ranks must be a string")
        try:
            self.ranks = rank_conditional(values["ranks"])
        except ValueError as exc:
            raise ValueError(f"{name}: ranks: {exc}") from None
        self.priority: int = values["priority"]
        self.provides: list[str] = list(values["provides"])
        self.requires: list[str] = list(values["requires"])
        self.needs: list[str] = list(values["needs"])
        self.before: list[str] = list(values["before"])
        self.after: list[str] = list(values["after"])
        self.needs_attrs: list[str] = list(values["needs_attrs"])
        self.needs_config: list[str] = list(values["needs_config"])
        self.needs_env: list[str] = list(values["needs_env"])
        for first, other in ((self.before, self.after), (self.after, self.before)):
            if EVERYTHING in first and (len(first) > 1 or other):
                raise ValueError(f"{name}: '*' in before or after stands for all that there is to say of the order")
        self.disabled = False
        self.forced = False  # enabled whatever conditions there are
        self.starttime: float | None = None
        self.endtime: float | None = None

    def enabled(self, context: Context | None = None) -> bool:
        """Whether it is to be run: it is not disabled, and what it depends on in its surroundings is so.

        Args:
            context: tells of the surroundings; None: leave them aside.
        """
        if self.forced or context is None:
            return self.forced or not self.disabled
        return (
            not self.disabled
            and self.ranks.test(context.rank)
            and _all_set(self.needs_attrs, context.attr_get)
            and _all_set(self.needs_config, context.conf_get)
            and _all_set(self.needs_env, context.getenv)
        )

    def runtask(self, context: Context) -> None:
        """Runs it, or says that it would; takes the time. Raises what it raises."""
        self.starttime = time.time()
        try:
            if context.dry_run:
                self.dry_run(context)
            else:
                context.print(f"start {self.name}")
                self.run(context)
        finally:
            self.endtime = time.time()

    def run(self, context: Context) -> None:
        """Does nothing."""

    def dry_run(self, context: Context) -> None:
        """Says what would be run."""
        print(f"run {self.name}")


def _all_set(names: list[str], lookup: Callable[[str], Any]) -> bool:
    """Whether all names are set, and those with a ! before them are not."""
    return all((lookup(name.removeprefix("!")) is None) == name.startswith("!") for name in names)


class CodeTask(Task):
    """A task that is a function.

    Args:
        name: what others call it.
        func: called with a Context.
        kwargs: as of Task.
    """

    def __init__(self, name: str, func: Callable[[Context], Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(name, *args, **kwargs)
        self.func = func

    def run(self, context: Context) -> None:
        """Calls the function."""
        self.func(context)

    def dry_run(self, context: Context) -> None:
        """Says what would be run."""
        print(f"run {self.name}")


class Module(Task):
    """A broker module to load; or to remove, once `set_remove` has been called.

    Args:
        conf: an entry of the array ``modules`` of modprobe.toml, whose keys are those of VALID_KEYS.

    Raises ValueError for an entry that will not do.
    """

    VALID_KEYS = (
        "name",
        "module",
        "args",
        "exec",
        "ranks",
        "priority",
        "provides",
        "requires",
        "needs",
        "before",
        "after",
        "needs-attrs",
        "needs-config",
        "needs-env",
    )

    def __init__(self, conf: Mapping[str, Any]) -> None:
        name = conf.get("name")
        if not isinstance(name, str) or not name:
            raise ValueError("a module needs a name")
        unknown = [key for key in conf if key not in self.VALID_KEYS]
        if unknown:
            raise ValueError(f"{name}: unknown key: {', '.join(unknown)}")
        own = ("name", "module", "args", "exec")
        super().__init__(name, **{key.replace("-", "_"): value for key, value in conf.items() if key not in own})
        self.module = conf.get("module", name)
        self.args: list[str] = list(conf.get("args", ()))
        self.exec = conf.get("exec", False)
        if not isinstance(self.module, str) or not isinstance(self.exec, bool):
            raise ValueError(f"{name}: module must be a string, exec true or false")
        if not all(isinstance(arg, str) for arg in self.args) or isinstance(conf.get("args"), str):
            raise ValueError(f"{name}: args must be a list of strings")
        self.removing = False

    def set_remove(self) -> None:
        """From now on to run it is to remove it: what it is loaded after, it is removed before."""
        if not self.removing:
            self.removing = True
            self.before, self.after = self.after, self.before

    def run(self, context: Context) -> None:
        """Loads or removes the module. Raises OSError."""
        if self.removing:
            context.print(f"remove {self.name}")
            context.rpc("module.remove", {"name": self.name}).get()
            return
        args = context.getopts(self.name, default=self.args, also=self.provides)
        request: dict[str, Any] = {"path": self.module, "args": args}
        if self.module != self.name:
            request["name"] = self.name
        if self.exec:
            request["exec"] = True
        context.print(f"load {self.name} {' '.join(args)}".rstrip())
        context.rpc("module.load", request).get()

    def dry_run(self, context: Context) -> None:
        """Says what would be done."""
        if self.removing:
            print(f"remove {self.name}")
        else:
            args = context.getopts(self.name, default=self.args, also=self.provides)
            print(f"load {self.name} {' '.join(args)}".rstrip())

    def to_dict(self) -> dict[str, Any]:
        """The entry of modprobe.toml that says all this."""
        values = {key: getattr(self, key.replace("-", "_")) for key in self.VALID_KEYS}
        return {**values, "ranks": str(self.ranks)}


def task(name: str, **kwargs: Any) -> Callable[[Callable[[Context], Any]], Callable[[Context], Any]]:
    """Makes a function of an rc file a task.

    Args:
        name: what others call it.
        kwargs: as of Task.

    Raises ValueError as Task does.
    """

    def decorate(func: Callable[[Context], Any]) -> Callable[[Context], Any]:
        func.modprobe_task = CodeTask(name, func, **kwargs)  # type: ignore[attr-defined]
        return func

    return decorate
