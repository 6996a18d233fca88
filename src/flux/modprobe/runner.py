"""Modprobe: descriptions are read, the order is found, and tasks are run, those at the same time that may be."""

from __future__ import annotations

import os
import sys
import time
import tomllib
from collections.abc import Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType
from typing import Any

from flux.modprobe.context import Context, ModuleList
from flux.modprobe.loader import ConfigLoader
from flux.modprobe.solver import DependencySolver
from flux.modprobe.taskdb import TaskDB
from flux.modprobe.tasks import CodeTask, Module, Task

#: How many tasks run at a time.
_THREADS = 5
#: Modules without which nobody could ask for anything: they come and go with the broker.
_ALWAYS = ("config", "connector-local", "groups", "overlay", "rexec")
#: The key of the times that tasks take, which `flux modprobe rc1 --timing` writes.
TIMING_KEY = "admin.modprobe.timing"


class Modprobe:
    """See the module.

    Args:
        timing: remember how long things take.
        verbose: say what is done.
        dry_run: only say what would be done.
    """

    def __init__(self, timing: bool = False, verbose: bool = False, dry_run: bool = False) -> None:
        self.taskdb = TaskDB()
        self.context = Context(self, verbose, dry_run)
        self.solver = DependencySolver(self.taskdb, self.context)
        self.timing: list[dict[str, Any]] | None = [] if timing else None
        self.exitcode = 0
        self._t0 = time.time()
        self._active: list[str] = []

    @property
    def timestamp(self) -> float:
        """Seconds since it was made."""
        return time.time() - self._t0

    @property
    def active_tasks(self) -> list[str]:
        """The names of the tasks to run, in the order in which they were added."""
        return list(self._active)

    def print(self, *args: Any) -> None:
        """Prints, with the time."""
        print(f"{self.timestamp:.3f}:", *args, flush=True)

    def add_timing(self, name: str, starttime: float, end: float | None = None) -> None:
        """Remembers how long something took; `end` is now by default. Times are of time.time()."""
        if self.timing is not None:
            end = time.time() if end is None else end
            self.timing.append({"name": name, "starttime": starttime - self._t0, "duration": end - starttime})

    def save_task_timing(self, tasks: Iterable[str]) -> None:
        """Writes what is remembered, and the times of tasks, to the KVS. Raises OSError."""
        if self.timing is None:
            return
        import flux.kvs  # only who wants it waits for it

        for name in tasks:
            task = self.get_task(name)
            if task is not None and task.starttime is not None:
                self.add_timing(name, task.starttime, task.endtime)
        handle = self.context.handle
        flux.kvs.put(handle, TIMING_KEY, self.timing)
        flux.kvs.commit(handle)

    # Tasks.

    def add_task(self, task: Task) -> None:
        """Makes a task known; if its name is in FLUX_MODPROBE_DISABLE, it is disabled."""
        task.disabled = task.disabled or task.name in os.environ.get("FLUX_MODPROBE_DISABLE", "").split(",")
        self.taskdb.add(task)

    def add_active_task(self, task: Task) -> None:
        """Makes a task one to be run."""
        if task.name not in self._active:
            self._active.append(task.name)

    def get_task(self, name: str, default: Task | None = None) -> Task | None:
        """The task that a name or service stands for."""
        tasks = self.taskdb.get_all(name)
        return next((task for task in tasks if task.name == name), tasks[0] if tasks else default)

    def resolve_service(self, name: str, ignore_needs: bool = False) -> str:
        """The name of the task that provides a service. Raises ValueError."""
        return self.solver.resolve_service(name, ignore_needs)

    def has_task(self, name: str) -> bool:
        """Whether a name or service is known."""
        return name in self.taskdb

    # Modules.

    def modules(self) -> list[Module]:
        """All modules that are known."""
        return [task for task in self.taskdb.all_tasks() if isinstance(task, Module)]

    def add_modules(self, file: str | os.PathLike[str]) -> None:
        """Reads a modprobe.toml. Raises ValueError, with the file's name, for what will not do; OSError."""
        try:
            table = tomllib.loads(Path(file).read_text(encoding="utf-8"))
            entries = table.pop("modules", [])
            if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
                raise ValueError("modules must be an array of tables")
            for entry in entries:
                self.add_task(Module(entry))
            self._update(table)
        except ValueError as exc:
            raise ValueError(f"{file}: {exc}") from None

    def update_module(self, name: str, entry: Mapping[str, Any], new_module: Module | None = None) -> None:
        """Changes what is known of a module.

        Args:
            entry: keys of modprobe.toml, and ``disabled``.
            new_module: what it is to be instead, made from `entry` already.

        Raises ValueError for a module that is not known, and for an entry that will not do.
        """
        module = self.get_task(name)
        if not isinstance(module, Module) or module.name != name:
            raise ValueError(f"no module {name} to update")
        changes = dict(entry)
        disabled = changes.pop("disabled", module.disabled)
        if not isinstance(disabled, bool):
            raise ValueError(f"{name}: disabled must be true or false")
        updated = new_module or Module({**module.to_dict(), **changes})
        updated.disabled = disabled
        place = self.taskdb.get_entry(name, name).place
        self.taskdb.add(updated, place)

    def _update(self, table: Mapping[str, Any]) -> None:
        """Takes what a file or the broker's configuration says beside the array of modules. Raises ValueError."""
        for name, value in table.items():
            if not isinstance(value, dict):
                raise ValueError(f"{name} must be a table")
            if name != "alternatives":
                self.update_module(name, value)
                continue
            for service, module in value.items():
                if not isinstance(module, str):
                    raise ValueError(f"alternatives.{service} must be a string")
                self.set_alternative(service, None if module == "none" else module)

    def configure_modules(self) -> Modprobe:
        """Reads all descriptions of modules, and what configuration and environment change. Raises ValueError."""
        loader = ConfigLoader(ConfigLoader.build_searchpath("datadir"), self.context.print)
        for file in loader.get_toml_files():
            self.add_modules(file)
        try:
            self._update(self.context.conf_get("modules", {}))
        except ValueError as exc:
            raise ValueError(f"configuration, [modules]: {exc}") from None
        backing = self.context.attr_get("content.backing-module")
        if backing is not None and "content-backing" in self.taskdb:
            self.set_alternative("content-backing", None if backing == "none" else backing)
        if self.context.getenv("FLUX_SCHED_MODULE") == "none" and "sched" in self.taskdb:
            self.disable("sched")
        for name in os.environ.get("FLUX_MODPROBE_DISABLE", "").split(","):
            if name in self.taskdb:
                self.disable(name)  # it may be the name of a service
        return self

    def set_alternative(self, name: str, alternative: str | None) -> None:
        """Chooses who provides a service; None: nobody. Raises ValueError."""
        self.taskdb.set_alternative(name, alternative)

    def disable(self, name: str) -> None:
        """Disables a module, service or task. Raises ValueError if there is none."""
        self.taskdb.disable(name)

    # Order.

    def solve(self, tasks: Iterable[str], timing: bool = True, ignore_disabled: bool = False) -> set[str]:
        """The names of the tasks that it takes. Raises ValueError."""
        start = time.time()
        result = self.solver.solve_needs(self.solver.solve_requirements(tasks, ignore_disabled))
        if timing:
            self.add_timing("solve", start)
        return result

    def get_deps(self, tasks: Iterable[str]) -> dict[str, list[str]]:
        """The tasks, each with those that it comes after. Raises ValueError."""
        return self.solver.solve_execution_order(tasks)

    def get_requires(self, tasks: Iterable[str], reverse: bool = False) -> dict[str, set[str]]:
        """The tasks, each with those that it requires; or that require it."""
        return self.solver.get_reverse_requires(tasks) if reverse else self.solver.get_requires(tasks)

    # Running.

    def run(self, deps: Mapping[str, Iterable[str]]) -> int:
        """Runs tasks, each when those that it comes after are done; returns an exit code.

        When one fails, no other is begun.
        """
        order = TopologicalSorter(deps)
        order.prepare()
        running: dict[Future[None], str] = {}
        with ThreadPoolExecutor(_THREADS, "modprobe") as pool:
            while order.is_active():
                if not self.exitcode:
                    for name in order.get_ready():
                        running[pool.submit(self._run_task, name)] = name
                if not running:
                    break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    name = running.pop(future)
                    error = future.exception()
                    if error is None:
                        order.done(name)
                        continue
                    self.exitcode = 1
                    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
                    print(f"{name}: {text}", file=sys.stderr, flush=True)
        return self.exitcode

    def _run_task(self, name: str) -> None:
        task = self.get_task(name)
        assert task is not None
        try:
            task.runtask(self.context)
        finally:
            self.context.forget_handle()

    def read_rcfile(self, name: str) -> Modprobe:
        """Reads rc files: their tasks become active, and their ``setup(context)`` is called.

        Args:
            name: ``rc1`` or ``rc3`` for those of the search path, or the path of one.

        Raises OSError, ValueError, and what the files raise.
        """
        files = [Path(name)]
        if "/" not in name and not name.endswith(".py"):
            files = ConfigLoader(ConfigLoader.build_searchpath("libexecdir"), self.context.print).get_rc_files(name)
        for file in files:
            self._read(file)
        return self

    def _read(self, file: Path) -> None:
        start = time.time()
        module = ModuleType(f"modprobe_{file.stem}")
        module.__file__ = str(file)
        exec(compile(file.read_bytes(), str(file), "exec"), module.__dict__)
        for member in list(vars(module).values()):
            task = getattr(member, "modprobe_task", None)
            if isinstance(task, CodeTask):
                self.add_task(task)
                self.add_active_task(task)
        setup = getattr(module, "setup", None)
        if setup is not None:
            setup(self.context)
        self.add_timing(str(file), start)

    def activate_modules(self, modules: Iterable[str]) -> None:
        """Has modules loaded, by name or service; one that is disabled is not. Raises ValueError for one not known."""
        for name in modules:
            task = self.get_task(name)
            if task is None:
                raise ValueError(f"no such module: {name}")
            if name not in self._active:
                self._active.append(name)

    def load(self, modules: Iterable[str]) -> int:
        """Loads modules and what they require, unless they are loaded; returns an exit code. Raises ValueError."""
        loaded = ModuleList(self.context.handle)
        needed = [name for name in self.solve(modules) if loaded.lookup(name) is None]
        if not needed:
            print("modprobe: all modules and their dependencies are loaded: nothing to do")
            return 0
        return self.run(self.get_deps(needed))

    def run_active(self) -> int:
        """Runs the active tasks, but loads no module that is there; returns an exit code. Raises ValueError."""
        return self.run(self.active_deps())

    def active_deps(self) -> dict[str, list[str]]:
        """The active tasks and what they require, each with those that it comes after. Raises ValueError."""
        tasks = self.solve(self._active, ignore_disabled=True)
        loaded = set(ModuleList(self.context.handle))
        return self.get_deps(name for name in tasks if not self._is_there(name, loaded))

    def _is_there(self, name: str, loaded: set[str]) -> bool:
        task = self.get_task(name)
        return isinstance(task, Module) and (name in loaded) != task.removing

    def set_remove(self, modules: Iterable[str] | None = None) -> None:
        """Has modules removed; None: all that are loaded, but for those that the broker is nothing without."""
        loaded = [name for name in ModuleList(self.context.handle) if name not in _ALWAYS]
        for name in loaded if modules is None else modules:
            module = self.get_task(name)
            if not isinstance(module, Module):
                module = Module({"name": name})
                self.add_task(module)
            module.set_remove()
            module.forced = True
            module.requires, module.needs = [], []
            self.add_active_task(module)

    def remove(self, modules: Iterable[str]) -> int:
        """Removes modules, and those that nobody uses then; returns an exit code. Raises ValueError.

        Args:
            modules: names or services; ``all`` stands for all.
        """
        listed = ModuleList(self.context.handle)
        loaded = [name for name in listed if name not in _ALWAYS]
        for name in loaded:
            if not self.has_task(name):
                self.add_task(Module({"name": name}))
        wanted = list(modules)
        if "all" in wanted:
            removed = set(loaded)
        else:
            names = [listed.lookup(name) or name for name in wanted]
            removed = self.solver.solve_removal(self.get_requires(loaded), names)
        self.set_remove(sorted(removed))
        return self.run(self.get_deps(removed))
