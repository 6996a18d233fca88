"""Jobspecs: what a job is to run and what it needs, as Python objects (spec 06, 15.7 and 15.8; RFC 14, RFC 25).

A Jobspec keeps its JSON object as it is, in `jobspec`; properties read and write parts of it. `JobspecV1` has the
builders that most programs begin with. What a jobspec must be like is in `flux.job._rules`, what options mean in
`flux.job._utils`, what counts mean in `flux.job._layouts`.
"""

from __future__ import annotations

import datetime
import errno
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import IO, Any, ClassVar

from flux.constraint.parser import ConstraintSyntaxError
from flux.job import _layouts, _rules, _utils
from flux.util import Fileref, del_treedict, get_treedict, parse_fsd, set_treedict

__all__ = ["Jobspec", "JobspecV1", "validate_counts", "validate_jobspec"]

#: Values of output and error that mean: do not ask for a file.
_NO_FILE = ("none", "kvs")


def validate_jobspec(jobspec: Any, require_version: int | None = None) -> tuple[Any, Any]:
    """Checks a jobspec.

    Args:
        jobspec: a Jobspec, or its JSON text (str, bytes).
        require_version: the version it must have; None: any.

    Returns (True, the Jobspec); (1, a text) for JSON null. Raises ValueError or TypeError with what is wrong,
    OSError(EINVAL) for None.
    """
    if jobspec is None:
        raise OSError(errno.EINVAL, "jobspec must not be None/NULL")
    if isinstance(jobspec, Jobspec):
        jobspec = jobspec.dumps()
    if not isinstance(jobspec, str | bytes):
        raise TypeError("jobspec must be a Jobspec or string (either binary or unicode)")
    spec = json.loads(jobspec)
    if spec is None:
        return 1, "Unable to parse JSON"
    if not isinstance(spec, dict):
        raise ValueError("a jobspec must be a JSON object")
    _rules.check_keys(spec, Jobspec.top_level_keys)
    if require_version == 1:
        return True, JobspecV1(**spec)
    valid = Jobspec(**spec)
    if require_version is not None and valid.version != require_version:
        raise ValueError(f"version must be {require_version}")
    return True, valid


def validate_counts(resources: Any) -> None:
    """Checks that every resource count is a number, as version 1 has it. Raises ValueError."""
    for vertex in _rules.walk(resources):
        if not isinstance(vertex["count"], int):
            kind, count = vertex["type"], type(vertex["count"]).__name__
            raise ValueError(f"resource count must be an integer for type '{kind}' (got '{count}')")


class Jobspec:
    """A jobspec of any version.

    Args:
        resources: list of resource vertices.
        tasks: list of tasks.
        attributes: dict with ``system`` and ``user``.
        version: number.

    Raises ValueError or TypeError for what is not valid.
    """

    top_level_keys: ClassVar[tuple[str, ...]] = ("resources", "tasks", "version", "attributes")

    def __init__(self, resources: Any, tasks: Any, attributes: Any, version: Any) -> None:
        self.jobspec: dict[str, Any] = {
            "resources": resources,
            "tasks": tasks,
            "attributes": attributes,
            "version": version,
        }
        _rules.check(self.jobspec)

    @classmethod
    def from_yaml_stream(cls, yaml_stream: str | bytes | IO[Any]) -> Any:
        """The jobspec in YAML text. Raises ValueError for what is none, ImportError without PyYAML."""
        try:
            import yaml
        except ImportError as exc:
            raise ImportError("reading YAML jobspecs needs PyYAML: pip install PyYAML", name="yaml") from exc
        try:
            spec = yaml.safe_load(yaml_stream)
        except yaml.YAMLError as exc:
            raise ValueError(f"not YAML: {exc}") from exc
        if not isinstance(spec, Mapping):
            raise ValueError("a jobspec must be a mapping")
        _rules.check_keys(spec, cls.top_level_keys)
        return cls(**spec)

    @classmethod
    def from_yaml_file(cls, filename: str | os.PathLike[str]) -> Any:
        """The jobspec in a YAML file. Raises OSError, and as `from_yaml_stream`."""
        with open(filename, "rb") as file:
            return cls.from_yaml_stream(file)

    # Attributes.

    @staticmethod
    def _path(key: str) -> str:
        if key.startswith("attributes."):
            return key
        return f"attributes.{key}" if key.startswith(("user.", "system.")) else f"attributes.system.{key}"

    def getattr(self, key: str) -> Any:
        """The attribute of a dotted key; without prefix it is one of ``attributes.system``. Raises KeyError."""
        value = get_treedict(self.jobspec, self._path(key))
        if value is None:
            raise KeyError(key)
        return value

    def setattr(self, key: str, val: Any) -> None:
        """Sets the attribute of a dotted key. Raises TypeError if there is a value on the way."""
        path = self._path(key)
        try:
            set_treedict(self.jobspec, path, val)
        except TypeError as exc:
            raise TypeError(f"failed to set {path} to {val}: {exc}") from exc

    def setattr_shell_option(self, key: str, val: Any) -> None:
        """Sets an option of the job shell."""
        self.setattr(f"system.shell.options.{key}", val)

    def _get(self, key: str) -> Any:
        return get_treedict(self.jobspec, f"attributes.system.{key}")

    @property
    def duration(self) -> Any:
        """The time limit, seconds; 0: none. May be set to a number, a Flux standard duration, or a timedelta."""
        return self._get("duration")

    @duration.setter
    def duration(self, duration: Any) -> None:
        self.setattr("duration", _seconds(duration))

    @property
    def queue(self) -> Any:
        """The queue; None: the default one."""
        return self._get("queue")

    @queue.setter
    def queue(self, queue: Any) -> None:
        if not isinstance(queue, str):
            raise TypeError("queue must be a string")
        self.setattr("queue", queue)

    @property
    def cwd(self) -> Any:
        """The working directory."""
        return self._get("cwd")

    @cwd.setter
    def cwd(self, cwd: Any) -> None:
        if isinstance(cwd, os.PathLike):
            cwd = os.fspath(cwd)
        if not isinstance(cwd, str):
            raise ValueError("cwd must be a string")
        self.setattr("cwd", cwd)

    @property
    def environment(self) -> Any:
        """The environment, a mapping; it is kept, not copied."""
        return self._get("environment")

    @environment.setter
    def environment(self, environ: Any) -> None:
        if not isinstance(environ, Mapping):
            raise ValueError("environment must be a mapping")
        self.setattr("environment", environ)

    def _set_file(self, key: str, path: Any) -> None:
        if not isinstance(path, str):
            from pathlib import PurePath  # who has one has loaded it

            if not isinstance(path, PurePath):
                raise TypeError(f"The path must be a string or pathlib object, got {type(path).__name__}")
            path = str(path)
        self.setattr_shell_option(f"{key}.type", "file")
        self.setattr_shell_option(f"{key}.path", path)

    @property
    def input(self) -> Any:
        """The file that standard input comes from; also `stdin`."""
        return self._get("shell.options.input.stdin.path")

    @input.setter
    def input(self, path: Any) -> None:
        self._set_file("input.stdin", path)

    @property
    def output(self) -> Any:
        """The file that standard output goes to; also `stdout`."""
        return self._get("shell.options.output.stdout.path")

    @output.setter
    def output(self, path: Any) -> None:
        self._set_file("output.stdout", path)

    @property
    def error(self) -> Any:
        """The file that standard error goes to; also `stderr`."""
        return self._get("shell.options.output.stderr.path")

    @error.setter
    def error(self, path: Any) -> None:
        self._set_file("output.stderr", path)

    stdin = input
    stdout = output
    stderr = error

    @property
    def unbuffered(self) -> bool:
        """Whether output and input go as they come, in no batches of lines."""
        return bool(self._get("shell.options.output.stdout.buffer.type") == "none")

    @unbuffered.setter
    def unbuffered(self, val: Any) -> None:
        if not isinstance(val, bool):
            raise TypeError("unbuffered must be True or False")
        if val:
            self.setattr_shell_option("output.stdout.buffer.type", "none")
            self.setattr_shell_option("output.stderr.buffer.type", "none")
            self.setattr_shell_option("output.batch-timeout", 0.05)
            self.setattr_shell_option("input.batch-timeout", 0.0)
            return
        options = "attributes.system.shell.options"
        for stream in ("stdout", "stderr"):
            if self._get(f"shell.options.output.{stream}.buffer.type") is not None:
                del_treedict(self.jobspec, f"{options}.output.{stream}.buffer.type", remove_empty=True)
        for key, ours in (("output.batch-timeout", 0.05), ("input.batch-timeout", 0.0)):
            if self._get(f"shell.options.{key}") == ours:
                del_treedict(self.jobspec, f"{options}.{key}", remove_empty=True)

    def add_file(self, path: str, data: Any, perms: int | None = None, encoding: str | None = None) -> None:
        """Adds a file that is made for the job, in its temporary directory.

        Args:
            path: its name there.
            data: a mapping (the file holds it as JSON); text with a line break, or with `encoding` (the content);
                or else the path of a local file.
            perms: permission bits; None: 0600, or those of the local file.
            encoding: ``utf-8`` or ``base64``.

        Raises TypeError for other data, ValueError for another encoding, OSError if the file cannot be read.
        """
        if not isinstance(data, Mapping | str):
            raise TypeError("data must be a Mapping or string")
        if isinstance(data, str) and "\n" in data and encoding is None:
            encoding = "utf-8"
        content = dict(data) if isinstance(data, Mapping) else data
        ref = Fileref(content, perms=0o600 if perms is None else perms, encoding=encoding)
        if perms is not None and "size" in ref:
            ref["mode"] = ref["mode"] & ~0o7777 | perms
        files = self.jobspec["attributes"].setdefault("system", {}).setdefault("files", {})
        files[path] = ref

    # Parts, and the whole.

    @property
    def resources(self) -> Any:
        """The resources section."""
        return self.jobspec["resources"]

    @property
    def tasks(self) -> Any:
        """The tasks section."""
        return self.jobspec["tasks"]

    @property
    def attributes(self) -> Any:
        """The attributes section."""
        return self.jobspec["attributes"]

    @property
    def version(self) -> Any:
        """The version."""
        return self.jobspec["version"]

    def dumps(self, **kwargs: Any) -> str:
        """The JSON text; arguments are those of `json.dumps`."""
        return json.dumps(self.jobspec, ensure_ascii=False, **kwargs)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(_rules.walk(self.resources))

    def resource_walk(self) -> Iterator[tuple[dict[str, Any] | None, dict[str, Any], int]]:
        """Every resource vertex as (its parent or None, the vertex, how many there are in all)."""
        waiting: list[tuple[dict[str, Any] | None, dict[str, Any], int]]
        waiting = [(None, vertex, 1) for vertex in reversed(self.resources)]
        while waiting:
            parent, vertex, number = waiting.pop()
            number *= vertex["count"]
            yield parent, vertex, number
            waiting.extend((vertex, child, number) for child in reversed(vertex.get("with", ())))

    def resource_counts(self) -> Counter[str]:
        """How many there are of each type of resource."""
        counts: Counter[str] = Counter()
        for _, vertex, number in self.resource_walk():
            counts[vertex["type"]] += number
        return counts

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}({self.resources!r}, {self.tasks!r}, attributes={self.attributes!r}, version={self.version!r})"

    def __str__(self) -> str:
        return str(self.jobspec)


def _seconds(duration: Any) -> float:
    """A time limit. Raises TypeError, ValueError."""
    if isinstance(duration, str):
        seconds = parse_fsd(duration)
    elif isinstance(duration, datetime.timedelta):
        seconds = duration.total_seconds()
    elif isinstance(duration, int | float):
        seconds = float(duration)
    else:
        raise TypeError("duration must be an int, float, string, or timedelta")
    if seconds < 0:
        raise ValueError("duration must not be negative")
    if not math.isfinite(seconds):
        raise ValueError("duration must be a normal, finite value")
    return seconds


class JobspecV1(Jobspec):
    """A jobspec of version 1. Arguments: as of Jobspec."""

    def __init__(self, resources: Any, tasks: Any, attributes: Any, version: Any = 1) -> None:
        if version != 1:
            raise ValueError("version must be 1")
        super().__init__(resources, tasks, attributes, version)
        _rules.check_v1(self.jobspec)

    @classmethod
    def _build(cls, command: Any, layout: _layouts.Layout) -> Any:
        tasks = [{"command": command, "slot": "task", "count": layout.task_count}]
        if isinstance(command, tuple):
            tasks[0]["command"] = list(command)
        return cls(layout.resources, tasks, {"system": {"duration": 0}}, 1)

    def _set_extra_options(
        self,
        duration: Any = None,
        environment: Any = None,
        env_expand: Any = None,
        cwd: Any = None,
        rlimits: Any = None,
        name: str | None = None,
        input: Any = None,
        output: Any = None,
        error: Any = None,
        label_io: bool = False,
        unbuffered: bool = False,
        queue: Any = None,
        bank: Any = None,
    ) -> None:
        """What all builders take besides."""
        if duration is not None:
            self.duration = duration
        self.environment = dict(os.environ) if environment is None else environment
        if env_expand is not None:
            if not isinstance(env_expand, Mapping):
                raise ValueError("env_expand must be a mapping")
            self.setattr_shell_option("env-expand", env_expand)
        if cwd is not None:
            self.cwd = cwd
        if rlimits is not None:
            if not isinstance(rlimits, Mapping):
                raise ValueError("rlimits must be a mapping")
            self.setattr_shell_option("rlimit", rlimits)
        if name is not None:
            self.setattr("job.name", name)
        if input is not None:
            self.input = input
        for stream, path in (("stdout", output), ("stderr", error)):
            if path is not None and path not in _NO_FILE:
                self._set_file(f"output.{stream}", path)
                if label_io:
                    self.setattr_shell_option(f"output.{stream}.label", True)
        if unbuffered:
            self.unbuffered = True
        if queue is not None:
            self.setattr("queue", queue)
        if bank is not None:
            self.setattr("bank", bank)

    # Builders. The keyword arguments that all take are those of `from_command`.

    @classmethod
    def from_command(
        cls,
        command: Any,
        num_tasks: int = 1,
        cores_per_task: int = 1,
        gpus_per_task: int | None = None,
        num_nodes: int | None = None,
        exclusive: bool = False,
        duration: Any = None,
        environment: Mapping[str, str] | None = None,
        env_expand: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        rlimits: Mapping[str, int] | None = None,
        name: str | None = None,
        input: Any = None,
        output: Any = None,
        error: Any = None,
        label_io: bool = False,
        unbuffered: bool = False,
        queue: str | None = None,
        bank: str | None = None,
    ) -> Any:
        """A job that runs a command in a number of tasks.

        Args:
            command: list of str.
            num_tasks: how many.
            cores_per_task, gpus_per_task: what each needs.
            num_nodes: spread over so many nodes.
            exclusive: whole nodes.
            duration: time limit: seconds, a Flux standard duration, or a timedelta.
            environment: names and values; None: a copy of os.environ.
            env_expand: variables with ``{{tags}}`` that the shell expands.
            cwd: working directory.
            rlimits: soft limits, by name in lower case.
            name: of the job.
            input, output, error: files for standard input, output and error; "none" or "kvs" is no file.
            label_io: output lines in files begin with the task.
            unbuffered: output goes as it comes.
            queue, bank: by name.

        Raises ValueError or TypeError for what makes no valid jobspec.
        """
        layout = _layouts.by_tasks(num_tasks, cores_per_task, gpus_per_task, num_nodes, exclusive)
        jobspec = cls._build(command, layout)
        jobspec._set_extra_options(
            duration=duration,
            environment=environment,
            env_expand=env_expand,
            cwd=cwd,
            rlimits=rlimits,
            name=name,
            input=input,
            output=output,
            error=error,
            label_io=label_io,
            unbuffered=unbuffered,
            queue=queue,
            bank=bank,
        )
        return jobspec

    @classmethod
    def per_resource(
        cls,
        command: Any,
        ncores: int | None = None,
        nnodes: int | None = None,
        per_resource_type: str | None = None,
        per_resource_count: int | None = None,
        gpus_per_node: int | None = None,
        exclusive: bool = False,
        **kwargs: Any,
    ) -> Any:
        """A job that asks for cores or nodes and runs so many tasks on each of them.

        Args:
            command: list of str.
            ncores, nnodes: how many in all.
            per_resource_type: ``node`` or ``core``.
            per_resource_count: tasks on each of those.
            gpus_per_node: how many.
            exclusive: whole nodes.
            kwargs: as of `from_command`.
        """
        layout = _layouts.by_resources(ncores, nnodes, gpus_per_node, exclusive)
        option = _layouts.per_resource_option(per_resource_type, per_resource_count)
        jobspec = cls._build(command, layout)
        if option is not None:
            jobspec.setattr_shell_option("per-resource", option)
        jobspec._set_extra_options(**kwargs)
        return jobspec

    @classmethod
    def from_nest_command(
        cls,
        command: Any,
        num_slots: int = 1,
        cores_per_slot: int = 1,
        gpus_per_slot: int | None = None,
        num_nodes: int | None = None,
        broker_opts: Any = None,
        exclusive: bool = False,
        conf: Any = None,
        **kwargs: Any,
    ) -> Any:
        """A job that is a Flux instance of its own, with `command` as its initial program.

        Args:
            command: list of str.
            num_slots, cores_per_slot, gpus_per_slot, num_nodes, exclusive: what it gets, as `from_command` counts.
            broker_opts: list of options for the broker.
            conf: its configuration: a dict, a BatchConfig, or what ``--conf`` takes.
            kwargs: as of `from_command`.
        """
        conf = _utils.normalize_conf(conf)
        options = [*(broker_opts or ())]
        if conf is not None:
            options.append("-c{{tmpdir}}/conf.json")
        layout = _layouts.by_tasks(num_slots, cores_per_slot, gpus_per_slot, num_nodes, exclusive)
        jobspec = cls._build(["flux", "broker", *options, *command], layout)
        jobspec._set_extra_options(**kwargs)
        jobspec.setattr_shell_option("per-resource.type", "node")
        jobspec.setattr_shell_option("mpi", "none")
        jobspec.setattr_shell_option("exit-timeout", "none")
        if conf is not None:
            jobspec.add_file("conf.json", conf)
        return jobspec

    @classmethod
    def from_batch_command(
        cls,
        script: str,
        jobname: str,
        args: Any = None,
        num_slots: int = 1,
        cores_per_slot: int = 1,
        gpus_per_slot: int | None = None,
        num_nodes: int | None = None,
        broker_opts: Any = None,
        exclusive: bool = False,
        conf: Any = None,
        **kwargs: Any,
    ) -> Any:
        """A job that is a Flux instance of its own, with a script as its initial program.

        Args:
            script: its text, which begins with ``#!``; else ValueError.
            jobname: the job's name.
            args: list of arguments for the script.
            kwargs: as of `from_command`; the others as of `from_nest_command`.
        """
        if not script.startswith("#!"):
            raise ValueError(f"{jobname} does not appear to start with '#!'")
        kwargs.setdefault("name", jobname)
        jobspec = cls.from_nest_command(
            ["{{tmpdir}}/script", *(args or ())],
            num_slots=num_slots,
            cores_per_slot=cores_per_slot,
            gpus_per_slot=gpus_per_slot,
            num_nodes=num_nodes,
            broker_opts=broker_opts,
            exclusive=exclusive,
            conf=conf,
            **kwargs,
        )
        jobspec.add_file("script", script, perms=0o700, encoding="utf-8")
        return jobspec

    @classmethod
    def from_submit(
        cls,
        command: Any,
        *,
        ntasks: int = 1,
        nodes: int | None = None,
        cores_per_task: int = 1,
        gpus_per_task: int | None = None,
        exclusive: bool = False,
        name: str | None = None,
        queue: str | None = None,
        bank: str | None = None,
        cwd: Any = None,
        output: Any = None,
        error: Any = None,
        input: Any = None,
        label_io: bool = False,
        unbuffered: bool = False,
        **kwargs: Any,
    ) -> Any:
        """What ``flux submit`` would submit; `kwargs` are the options of `apply_options`."""
        jobspec = cls.from_command(
            command,
            num_tasks=ntasks,
            num_nodes=nodes,
            cores_per_task=cores_per_task,
            gpus_per_task=gpus_per_task,
            exclusive=exclusive,
            name=name,
            queue=queue,
            bank=bank,
            cwd=cwd,
            output=output,
            error=error,
            input=input,
            label_io=label_io,
            unbuffered=unbuffered,
        )
        return jobspec._apply_defaults("submit", kwargs)

    def _apply_defaults(self, prog: str, options: dict[str, Any]) -> Any:
        """Applies options, with the environment and limits of the caller where they say nothing else."""
        return self.apply_options(prog=prog, **{"env": [], "rlimit": [], **options})

    @classmethod
    def _slots(cls, nslots: int | None, nodes: int | None, exclusive: bool) -> tuple[int | None, bool]:
        """Nodes alone are whole nodes, one slot each."""
        if nslots is None and nodes is not None:
            return nodes, True
        return nslots, exclusive

    @classmethod
    def from_alloc(
        cls,
        *,
        nslots: int | None = None,
        nodes: int | None = None,
        cores_per_slot: int = 1,
        gpus_per_slot: int | None = None,
        exclusive: bool = False,
        broker_opts: Any = None,
        conf: Any = None,
        bg: bool = False,
        name: str | None = None,
        queue: str | None = None,
        bank: str | None = None,
        cwd: Any = None,
        output: Any = None,
        error: Any = None,
        input: Any = None,
        label_io: bool = False,
        unbuffered: bool = False,
        **kwargs: Any,
    ) -> Any:
        """What ``flux alloc`` would submit: an instance of its own; `kwargs` are the options of `apply_options`."""
        nslots, exclusive = cls._slots(nslots, nodes, exclusive)
        if nslots is None:
            raise ValueError("from_alloc() requires nslots or nodes")
        options = [*(broker_opts or ()), *(("-Sbroker.rc2_none=1",) if bg else ())]
        jobspec = cls.from_nest_command(
            [],
            num_slots=nslots,
            cores_per_slot=cores_per_slot,
            gpus_per_slot=gpus_per_slot,
            num_nodes=nodes,
            broker_opts=options,
            exclusive=exclusive,
            conf=conf,
            name=name,
            queue=queue,
            bank=bank,
            cwd=os.getcwd() if cwd is None else cwd,
            output=output,
            error=error,
            input=input,
            label_io=label_io,
            unbuffered=unbuffered,
        )
        if bg:
            jobspec.setattr_shell_option("pty.capture", 1)
        return jobspec._apply_defaults("alloc", kwargs)

    @classmethod
    def from_batch(
        cls,
        script: Any = None,
        *,
        content: str | None = None,
        nslots: int | None = None,
        nodes: int | None = None,
        cores_per_slot: int = 1,
        gpus_per_slot: int | None = None,
        exclusive: bool = False,
        broker_opts: Any = None,
        conf: Any = None,
        wrap: bool = False,
        name: str | None = None,
        queue: str | None = None,
        bank: str | None = None,
        cwd: Any = None,
        output: Any = None,
        error: Any = None,
        input: Any = None,
        label_io: bool = False,
        unbuffered: bool = False,
        **kwargs: Any,
    ) -> Any:
        """What ``flux batch`` would submit.

        Args:
            script: path of a script; or
            content: its text.
            wrap: put ``#!/bin/sh`` in front.
            kwargs: the options of `apply_options`; the others as of `from_alloc`.
        """
        if script is not None and content is not None:
            raise TypeError("from_batch() accepts 'script' or 'content', not both")
        if script is not None:
            with open(script, encoding="utf-8") as file:
                content = file.read()
            default = os.path.basename(os.fspath(script))
        elif content is not None:
            default = "batch"
        else:
            raise TypeError("from_batch() requires 'script' (file path) or 'content' (inline script)")
        nslots, exclusive = cls._slots(nslots, nodes, exclusive)
        jobspec = cls.from_batch_command(
            f"#!/bin/sh\n{content}" if wrap else content,
            default if name is None else name,
            num_slots=1 if nslots is None else nslots,
            cores_per_slot=cores_per_slot,
            gpus_per_slot=gpus_per_slot,
            num_nodes=nodes,
            broker_opts=broker_opts,
            exclusive=exclusive,
            conf=conf,
            queue=queue,
            bank=bank,
            cwd=os.getcwd() if cwd is None else cwd,
            output="flux-{{id}}.out" if output is None else output,
            error=error,
            input=input,
            label_io=label_io,
            unbuffered=unbuffered,
        )
        return jobspec._apply_defaults("batch", kwargs)

    # Options.

    def apply_options(
        self,
        args: Any = None,
        *,
        prog: str | None = None,
        _preinit: bool = True,
        env: Any = None,
        rlimit: Any = None,
        signal: str | None = None,
        taskmap: str | None = None,
        dependency: Any = None,
        requires: Any = None,
        shell_options: Mapping[str, Any] | None = None,
        time_limit: Any = None,
        attributes: Mapping[str, Any] | None = None,
        add_file: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Applies what the options of ``flux submit`` and its like say, and returns this jobspec (spec 06, 15.8).

        Args:
            args: an argparse namespace with the same names; keyword arguments go before it.
            prog: the command they are options of: its plugins (`flux.cli.plugin`) have their say, and `kwargs` may be
                their options.
            env, rlimit: lists of rules; applied if given, or if `args` is.
            signal: ``[SIG][@TIME]``: to be sent before the time limit.
            taskmap: ``SCHEME[:VALUE]``.
            dependency: list of ``SCHEME:VALUE``.
            requires: list of constraints.
            shell_options, attributes: dotted keys to values.
            time_limit: seconds, or a Flux standard duration.
            add_file: list of ``[NAME[:PERMS]=]PATH``.

        Lists may be a single str. Raises ValueError, with the option's name, and TypeError for other arguments.
        """
        if kwargs and prog is None:
            names = ", ".join(f"'{name}'" for name in sorted(kwargs))
            raise TypeError(f"apply_options() got unexpected keyword argument(s): {names}")
        if prog is not None:
            from flux.cli.plugin import options_for_api, registry_for_api

            plugins = registry_for_api(prog)
            seen = options_for_api(plugins, args, kwargs)
            if _preinit:
                plugins.preinit(seen)
            args = args if args is None else seen

        def option(value: Any, name: str) -> Any:
            return value if value is not None else getattr(args, name, None)

        env, rlimit = option(env, "env"), option(rlimit, "rlimit")
        if env is not None or args is not None:
            self.environment, expand = _utils.get_filtered_environment(_several(env))
            if expand:
                self.setattr_shell_option("env-expand", expand)
        if rlimit is not None or args is not None:
            limits = _utils.get_filtered_rlimits(_several(rlimit))
            if limits:
                self.setattr_shell_option("rlimit", limits)
        if (value := option(time_limit, "time_limit")) is not None:
            self.duration = _time_limit(value)
        if (value := option(dependency, "dependency")) is not None:
            self.setattr("dependencies", _utils.dependency_array_create(_several(value)))
        if (value := option(requires, "requires")) is not None:
            self._require(" ".join(_several(value)))
        if (value := option(signal, "signal")) is not None:
            self.setattr_shell_option("signal", _utils.parse_signal_option(value))
        if (value := option(taskmap, "taskmap")) is not None:
            scheme, _, rest = value.partition(":")
            self.setattr_shell_option("taskmap", {"scheme": scheme, "value": rest})
        for text in getattr(args, "setopt", None) or ():
            key, value = _utils.parse_jobspec_keyval("--setopt", text)
            self.setattr_shell_option(key, value)
        for key, value in (option(shell_options, "shell_options") or {}).items():
            self.setattr_shell_option(key, value)
        for text in getattr(args, "setattr", None) or ():
            self._set_option(*_utils.parse_jobspec_keyval("--setattr", text))
        for key, value in (option(attributes, "attributes") or {}).items():
            self._set_option(key, value)
        for text in _several(option(add_file, "add_file")):
            _utils.jobspec_add_file(self, text)
        if prog is not None:
            plugins.modify_jobspec(seen, self)
        return self

    def _require(self, query: str) -> None:
        try:
            constraint = _utils.MiniConstraintParser().parse(query)
        except (ConstraintSyntaxError, ValueError) as exc:
            raise ValueError(f"--requires='{query}': {exc}") from exc
        self.setattr("constraints", constraint)

    def _set_option(self, key: str, value: Any) -> None:
        """Sets an attribute; a leading dot stands for ``attributes.``."""
        self.setattr(f"attributes{key}" if key.startswith(".") else key, value)


def _several(value: Any) -> list[Any]:
    """The values of an option that may be given as one."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def _time_limit(value: Any) -> Any:
    """A time limit in seconds, also as text; or a Flux standard duration."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
