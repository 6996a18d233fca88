"""Which tasks it takes, and in which order. Pure, but for the questions that conditions of tasks ask their context.

- What a task requires is run too.
- What a task needs decides whether it is run: if that is disabled, so is the task.
- Before and after are about tasks that are run; they add none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from flux.modprobe.taskdb import TaskDB
from flux.modprobe.tasks import EVERYTHING, Task

if TYPE_CHECKING:
    from flux.modprobe.context import Context


class DependencySolver:
    """See the module.

    Args:
        taskdb: all tasks.
        context: tells tasks of their surroundings; None: conditions on them hold.
    """

    def __init__(self, taskdb: TaskDB, context: Context | None) -> None:
        self.taskdb = taskdb
        self.context = context

    def resolve_service(self, service: str, ignore_needs: bool = False) -> str:
        """The name of the task that provides a service.

        Args:
            ignore_needs: one whose needs are disabled counts as well.

        Raises ValueError if there is none, or all are disabled.
        """
        tasks = self.taskdb.get_all(service)
        if not tasks:
            raise ValueError(f"no such module or task: {service}")
        for task in tasks:
            if task.enabled(self.context) and (ignore_needs or self._needs_met(task, set())):
                return task.name
        raise ValueError(f"{service} is disabled")

    def _needs_met(self, task: Task, asked: set[str]) -> bool:
        if task.forced:
            return True
        return all(self._available(service, asked) for service in task.needs)

    def _available(self, service: str, asked: set[str]) -> bool:
        """Whether somebody who is enabled provides a service; those that need each other are all there or none."""
        if service in asked:
            return True
        return any(
            task.enabled(self.context) and self._needs_met(task, asked | {service})
            for task in self.taskdb.get_all(service)
        )

    def solve_requirements(self, tasks: Iterable[str], ignore_disabled: bool = False) -> set[str]:
        """The names of tasks, and of all that they require.

        Args:
            tasks: names of tasks or services.
            ignore_disabled: what is disabled is left out silently, also if it is one of `tasks`.

        Raises ValueError for what nobody provides, and for what is disabled.
        """
        found: set[str] = set()
        left = [(name, not ignore_disabled) for name in tasks]
        while left:
            name, strict = left.pop()
            try:
                task_name = self.resolve_service(name)
            except ValueError:
                if strict or name not in self.taskdb:
                    raise
                continue
            if task_name not in found:
                found.add(task_name)
                left += [(required, False) for required in self._task(task_name).requires]
        return found

    def solve_needs(self, tasks: Iterable[str]) -> set[str]:
        """Those of the tasks whose needs are met."""
        return {name for name in tasks if self._needs_met(self._task(name), set())}

    def solve_execution_order(self, tasks: Iterable[str]) -> dict[str, list[str]]:
        """The tasks, each with those that it comes after. Raises ValueError if they go round in a circle."""
        names = sorted(set(tasks))
        chosen = [self._task(name) for name in names]
        first = {task.name for task in chosen if EVERYTHING in task.before}
        last = {task.name for task in chosen if EVERYTHING in task.after}
        after: dict[str, set[str]] = {name: set() for name in names}
        for task in chosen:
            if task.name not in first:
                after[task.name] |= first
            if task.name in last:
                after[task.name] |= set(names) - last
            for service in task.after:
                after[task.name] |= self._providers(service, after)
            for service in task.before:
                for provider in self._providers(service, after):
                    after[provider].add(task.name)
        order = {name: sorted(others - {name}) for name, others in after.items()}
        try:
            TopologicalSorter(order).prepare()
        except CycleError as exc:
            raise ValueError(f"tasks come after each other in a circle: {' -> '.join(exc.args[1])}") from None
        return order

    def _providers(self, service: str, among: Mapping[str, object]) -> set[str]:
        return {task.name for task in self.taskdb.get_all(service) if task.name in among}

    def get_requires(self, tasks: Iterable[str]) -> dict[str, set[str]]:
        """The tasks, each with those of them that it requires."""
        names = dict.fromkeys(tasks)
        return {
            name: {other for service in self._task(name).requires for other in self._providers(service, names)}
            for name in names
        }

    def get_reverse_requires(self, tasks: Iterable[str]) -> dict[str, set[str]]:
        """The tasks, each with those of them that require it."""
        requires = self.get_requires(tasks)
        return {name: {other for other, needed in requires.items() if name in needed} for name in requires}

    def solve_removal(self, dependencies: Mapping[str, set[str]], modules_to_remove: Iterable[str]) -> set[str]:
        """The modules to remove: those asked for, and those that nobody uses then who did before.

        Args:
            dependencies: the loaded modules, each with those of them that it requires.
            modules_to_remove: those asked for.

        Raises ValueError for one that is not loaded, or still in use.
        """
        removed = set(modules_to_remove)
        for name in sorted(removed):
            if name not in dependencies:
                raise ValueError(f"module {name} is not loaded")
            users = sorted(other for other, needed in dependencies.items() if name in needed and other not in removed)
            if users:
                raise ValueError(f"{name} still in use by {', '.join(users)}")
        left = list(removed)
        while left:
            for candidate in dependencies[left.pop()]:
                others = {other for other, needed in dependencies.items() if candidate in needed}
                if candidate in dependencies and candidate not in removed and others <= removed:
                    removed.add(candidate)
                    left.append(candidate)
        return removed

    def _task(self, name: str) -> Task:
        """The task of a name, or the best one that provides it. Raises ValueError."""
        tasks = self.taskdb.get_all(name)
        if not tasks:
            raise ValueError(f"no such module or task: {name}")
        return next((task for task in tasks if task.name == name), tasks[0])
