"""flux job: taskmap, hostpids: which task of a job is where (RFC 34)."""

from __future__ import annotations

import json
from typing import Any

from flux.cli.commands.job.common import Failure, compact, duration, handle, jobid, number, show, text_of
from flux.cli.options import Parsed
from flux.core.handle import Flux
from flux.idset import IDset
from flux.job._requests import wire_id
from flux.job.event import event_watch_async
from flux.job.JobID import JobID


class TaskMap:
    """Which node has which tasks.

    Args:
        blocks: ``[[nodeid, nodes, tasks a node, repeat], ...]``.
    """

    def __init__(self, blocks: list[list[int]]) -> None:
        self.blocks = blocks
        self.nodes: dict[int, list[int]] = {}
        task = 0
        for first, count, tasks, repeat in blocks:
            for _ in range(repeat):
                for node in range(first, first + count):
                    self.nodes.setdefault(node, []).extend(range(task, task + tasks))
                    task += tasks
        self.size = task

    @classmethod
    def parse(cls, text: str) -> TaskMap:
        """The map that a text is, in JSON or as lists of tasks. Raises ValueError."""
        try:
            value = json.loads(text)
        except ValueError:
            return cls._raw(text)
        blocks = value.get("map") if isinstance(value, dict) else value
        if not isinstance(blocks, list) or not all(
            isinstance(block, list) and len(block) == 4 and all(type(n) is int and n >= 0 for n in block)
            for block in blocks
        ):
            raise ValueError("a task map is a list of lists of four numbers")
        return cls(blocks)

    @classmethod
    def _raw(cls, text: str) -> TaskMap:
        made = cls([])
        for node, ids in enumerate(text.split(";")):
            try:
                made.nodes[node] = list(IDset(ids))
            except ValueError:
                raise ValueError(f"error parsing range '{ids}'") from None
        made.size = sum(map(len, made.nodes.values()))
        made.blocks = [[node, 1, len(tasks), 1] for node, tasks in made.nodes.items()]
        return made

    def ids(self, node: int) -> str:
        """The tasks of a node, as text."""
        tasks = IDset()
        for task in self.nodes[node]:
            tasks.add(task)
        return str(tasks)

    def node_of(self, task: int) -> int | None:
        """The node that has a task."""
        return next((node for node, tasks in self.nodes.items() if task in tasks), None)


def _shell_start(h: Flux, target: JobID, timeout: float = -1.0) -> dict[str, Any] | None:
    """The context of the event shell.start, with that of shell.init; None if there was none. Raises OSError."""
    watch = event_watch_async(h, target, "guest.exec.eventlog")
    context: dict[str, Any] = {}
    try:
        while True:
            if timeout >= 0:
                watch.wait_for(timeout)
            event = watch.get_event()
            if event is None:
                return None
            if event.name in ("shell.init", "shell.start"):
                context |= event.context
            if event.name == "shell.start":
                return context
    finally:
        watch.cancel(stop=True)


def _hosts(h: Flux, target: JobID) -> list[str]:
    from flux.hostlist import Hostlist

    found = h.rpc("job-info.lookup", {"id": wire_id(target), "keys": ["R"], "flags": 0}).get()
    return list(Hostlist(json.loads(found["R"])["execution"]["nodelist"]))


def taskmap_command(parsed: Parsed) -> int:
    """Prints a task map, or something of it."""
    (word,) = parsed.words
    form = parsed.value("to")
    if form is not None and form not in ("raw", "pmi", "hosts", "multiline"):
        raise Failure(f"invalid value --to={form}")
    try:
        target: JobID | None = JobID(word)
    except ValueError:
        target = None
    hosts: list[str] = []
    if target is None:
        if parsed.has("hostname") or form == "hosts":
            raise Failure("taskmap: can't use --hostname without a jobid")
        try:
            taskmap = TaskMap.parse(word)
        except ValueError as exc:
            raise Failure(f"error decoding taskmap: {exc}") from None
    else:
        with handle() as h:
            try:
                context = _shell_start(h, target)
                if context is None or "taskmap" not in context:
                    raise Failure("No taskmap found for job")
                taskmap = TaskMap(context["taskmap"]["map"])
                if parsed.has("hostname") or form == "hosts":
                    hosts = _hosts(h, target)
            except OSError as exc:
                raise Failure(text_of(exc)) from None
    _print_map(parsed, taskmap, hosts, form)
    return 0


def _of_node(taskmap: TaskMap, node: int) -> list[int]:
    if node not in taskmap.nodes:
        raise Failure(f"failed to get task ids for node {node}: No such file or directory")
    return taskmap.nodes[node]


def _print_map(parsed: Parsed, taskmap: TaskMap, hosts: list[str], form: str | None) -> None:
    for name in ("taskids", "ntasks", "nodeid", "hostname"):
        if not parsed.has(name):
            continue
        which = number(parsed, name, 0)
        if name in ("taskids", "ntasks"):
            tasks = _of_node(taskmap, which)
            show(taskmap.ids(which) if name == "taskids" else str(len(tasks)))
            return
        node = taskmap.node_of(which)
        if node is None:
            raise Failure(f"failed to get node of task {which}: No such file or directory")
        show(str(node) if name == "nodeid" else hosts[node])
        return
    if form == "raw":
        show(";".join(taskmap.ids(node) for node in sorted(taskmap.nodes)))
    elif form == "pmi":
        vectors = ",".join(f"({a},{b},{c})" for a, b, c, repeat in taskmap.blocks for _ in range(repeat))
        show(f"(vector,{vectors})")
    elif form == "multiline":
        for task in range(taskmap.size):
            show(f"{task}: {taskmap.node_of(task)}", flush=False)
    elif form == "hosts":
        for node in sorted(taskmap.nodes):
            show(f"{hosts[node]}: {taskmap.ids(node)}", flush=False)
    else:
        show(compact(taskmap.blocks))


def hostpids_command(parsed: Parsed) -> int:
    """Prints hosts and pids of a job's tasks."""
    (word,) = parsed.words
    target = jobid(word)
    delimiter = (parsed.value("delimiter") or ",").replace("\\n", "\n")
    try:
        wanted = IDset(parsed.value("ranks") or "") if parsed.has("ranks") else None
    except ValueError as exc:
        raise Failure(f"hostpids: {exc}") from None
    with handle() as h:
        try:
            job = h.rpc("job-list.list-id", {"id": wire_id(target), "attrs": ["state"]}).get()["job"]
        except OSError:
            raise Failure(f"hostpids: {word}: No such job") from None
        if job["state"] == 64:
            raise Failure(f"hostpids: job {word} is inactive")
        try:
            context = _shell_start(h, target, duration(parsed, "timeout"))
        except TimeoutError:
            raise Failure("hostpids: timeout waiting for shell.start event") from None
        if context is None:
            raise Failure(f"hostpids: job {word} is inactive")
        topic = f"{context['service']}.proctable"
        table = h.rpc(topic, None, context.get("leader-rank", 0)).get()
    pairs = _pairs(table)
    show(delimiter.join(f"{host}:{pid}" for task, (host, pid) in enumerate(pairs) if wanted is None or task in wanted))
    return 0


def _pairs(table: dict[str, Any]) -> list[tuple[str, int]]:
    """(host, pid) of each task, of a process table in its compressed form (spec 07, 5.9)."""
    return list(zip(_names(table["hosts"]), _numbers(table["pids"]), strict=True))


def _numbers(entries: list[Any]) -> list[int]:
    """Numbers are differences to the one before; [d, n] is a step of d, and n more of 1, or -n more of 0."""
    found: list[int] = []
    before = 0
    for entry in entries:
        step, more = entry if isinstance(entry, list) else (entry, 0)
        first = before + step
        found += [first + n if more > 0 else first for n in range(abs(more) + 1)]
        before = found[-1]
    return found


def _names(entries: list[Any]) -> list[str]:
    """Names that end in numbers are [what they have in common, numbers]; -1 is no number."""
    found: list[str] = []
    for entry in entries:
        if isinstance(entry, list):
            found += [entry[0] if at < 0 else f"{entry[0]}{at}" for at in _numbers(entry[1])]
        else:
            found.append(entry)
    return found
