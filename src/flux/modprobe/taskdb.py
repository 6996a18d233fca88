"""Tasks by name, and by the services that they provide.

Of several that provide a service the one with the highest priority counts, the last one added among equals; unless
another is chosen, or it is disabled.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from flux.modprobe.tasks import Task


class TaskDB:
    """See the module."""

    class TaskEntry(NamedTuple):
        """A task as a provider of a service: ordered by what makes it the better one.

        Args:
            chosen: it is what the user wants.
            priority, place: of the task.
            task: the task.
        """

        chosen: bool
        priority: int
        place: int
        task: Task

        @property
        def rank(self) -> tuple[bool, int, int]:
            """The greater, the better."""
            return self.chosen, self.priority, self.place

    def __init__(self) -> None:
        self._services: dict[str, list[TaskDB.TaskEntry]] = {}
        self._count = 0

    def add(self, task: Task, index: int | None = None) -> None:
        """Adds a task; one of the same name is replaced.

        Args:
            index: its place among those of equal priority; None: behind all others.
        """
        self._count += 1
        place = self._count if index is None else index
        for service in dict.fromkeys((task.name, *task.provides)):
            entries = [entry for entry in self._services.get(service, []) if entry.task.name != task.name]
            self._services[service] = [*entries, self.TaskEntry(False, task.priority, place, task)]

    def get(self, service: str) -> Task:
        """The task that provides a service. Raises ValueError if there is none, or all are disabled."""
        tasks = self.get_all(service)
        if not tasks:
            raise ValueError(f"no such module or task: {service}")
        enabled = [task for task in tasks if task.enabled()]
        if not enabled:
            raise ValueError(f"{service} is disabled")
        return enabled[0]

    def get_all(self, service: str) -> list[Task]:
        """All tasks that provide a service, the best one first."""
        entries = sorted(self._services.get(service, []), key=lambda entry: entry.rank, reverse=True)
        return [entry.task for entry in entries]

    def all_tasks(self) -> list[Task]:
        """All tasks, in the order in which they were added first."""
        entries = {entry.task.name: entry for entries in self._services.values() for entry in entries}
        return [entry.task for entry in sorted(entries.values(), key=lambda entry: entry.place)]

    def get_entry(self, service: str, task_name: str) -> TaskEntry:
        """A task as a provider of a service. Raises ValueError if it is none."""
        for entry in self._services.get(service, []):
            if entry.task.name == task_name:
                return entry
        raise ValueError(f"no module {task_name} provides {service}")

    def set_alternative(self, service: str, name: str | None) -> None:
        """Chooses who provides a service; None: nobody does. Raises ValueError for one who cannot."""
        if name is None:
            self.disable(service)
            return
        self.get_entry(service, name)
        entries = self._services[service]
        self._services[service] = [entry._replace(chosen=entry.task.name == name) for entry in entries]

    def disable(self, service: str) -> None:
        """Disables all that provide a service. Raises ValueError if there is none."""
        for task in self._known(service):
            task.disabled, task.forced = True, False

    def enable(self, service: str) -> None:
        """Enables all that provide a service, whatever their conditions are. Raises ValueError if there is none."""
        for task in self._known(service):
            task.disabled, task.forced = False, True

    def _known(self, service: str) -> list[Task]:
        tasks = self.get_all(service)
        if not tasks:
            raise ValueError(f"no such module or task: {service}")
        return tasks

    def __contains__(self, service: str) -> bool:
        return service in self._services

    def __setitem__(self, name: str, task: Task) -> None:
        """Has a task stand for a name, beside its own."""
        self._count += 1
        entry = self.TaskEntry(False, task.priority, self._count, task)
        self._services.setdefault(name, []).append(entry)

    def has_enabled_provider(self, tasks: Iterable[str], service: str) -> bool:
        """Whether one of the tasks of these names provides a service, and is not disabled."""
        names = set(tasks)
        return any(task.name in names and task.enabled() for task in self.get_all(service))
