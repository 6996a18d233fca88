"""rc1 and rc3: the modules of an instance come, and go, and what is to be done once they are there (spec 03, 7.1, 7.4).

What the reference's `flux modprobe rc1` and `rc3` do in processes of their own is done here by the broker itself: it
asks the service `module` as they do, and tells the log what they would say. User scripts come after it, or before it
at the end (`fluxlet.broker.lifecycle`).

Rules:
- `plan` is pure: which modules, in which order, with which arguments.
- A module is loaded when the one before it runs, and removed when the one that was loaded after it is gone.
- The first failure ends rc1, but not in recovery mode: somebody wants to see what there is. rc3 goes on whatever fails,
  so that as much as possible ends in an orderly way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from signal import SIGHUP
from syslog import LOG_ERR, LOG_INFO
from time import monotonic, time
from typing import TYPE_CHECKING, Any, NamedTuple

from flux.core.future_state import FutureState
from flux.core.handle import Flux
from flux.future import Future
from fluxlet.broker.builtins import ARGUMENTS, FIRST, LISTED, ONLY_RANK_0
from fluxlet.broker.offline import dump_words, dumped, restore_words, restored
from fluxlet.broker.startlog import log_finish, log_start

if TYPE_CHECKING:
    from fluxlet.broker.broker import Broker

#: Services that another module may provide, and who does by default.
_PROVIDERS = {"sched": "sched-simple", "content-backing": "content-sqlite"}

#: What is done when the modules are there, before user scripts; each is given a handle, and the broker.
RC1_TASKS: list[Callable[[Flux, Broker], Awaitable[None]]] = [log_start]
#: What is done while they are still there, at the end.
RC3_TASKS: list[Callable[[Flux, Broker], Awaitable[None]]] = [log_finish]


class Load(NamedTuple):
    """A module to load: its name or path, and arguments."""

    module: str
    args: list[str]


def plan(rank: int, config: Mapping[str, Any], attributes: Mapping[str, str], environ: Mapping[str, str]) -> list[Load]:
    """The modules that rc1 loads.

    Args:
        rank: of the broker.
        config: the configuration; its table `modules` names alternatives, arguments, and what is left out.
        attributes, environ: those of the broker.

    Raises ValueError, with the text for the user, for a table `modules` that will not do.
    """
    modules = config.get("modules", {})
    if not isinstance(modules, dict):
        raise ValueError("[modules]: expected a table")
    alternatives = modules.get("alternatives", {})
    if not isinstance(alternatives, dict) or not all(isinstance(name, str) for name in alternatives.values()):
        raise ValueError("[modules.alternatives]: expected a table of module names, by service")
    instead = {_PROVIDERS.get(service, service): name for service, name in alternatives.items()}
    instead.setdefault("content-sqlite", attributes.get("content.backing-module", "content-sqlite"))
    left_out = {name for name in environ.get("FLUX_MODPROBE_DISABLE", "").split(",") if name}
    if environ.get("FLUX_SCHED_MODULE") == "none":
        left_out.add("sched-simple")
    loads = []
    for name in LISTED:
        chosen = instead.get(name, name)
        settings = _settings(modules, chosen)
        if name in FIRST or (rank and name in ONLY_RANK_0) or {name, chosen} & left_out:
            continue
        if not settings["disabled"] and chosen != "none":
            loads.append(Load(chosen, settings["args"]))
    return loads


def _settings(modules: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What the configuration says of a module. Raises ValueError."""
    table = modules.get(name, {})
    if not isinstance(table, dict):
        raise ValueError(f"[modules.{name}]: expected a table")
    args, disabled = table.get("args", ARGUMENTS.get(name, [])), table.get("disabled", False)
    if not isinstance(args, list) or not all(isinstance(arg, str) for arg in args):
        raise ValueError(f"[modules.{name}]: args: expected an array of strings")
    if not isinstance(disabled, bool):
        raise ValueError(f"[modules.{name}]: disabled: expected true or false")
    return {"args": args, "disabled": disabled}


class Rc:
    """Runs rc1 or rc3.

    Args:
        broker: whose modules they are.
        handle: asks for what is to be done.
        environ: the broker's environment.
        command: runs `flux` with these words, logging in this name, and calls back with the exit code.
    """

    def __init__(
        self,
        broker: Broker,
        handle: Flux,
        environ: Mapping[str, str],
        command: Callable[[str, list[str], Callable[[int], None]], None],
    ) -> None:
        self._broker = broker
        self._handle = handle
        self._environ = environ
        self._command = command
        self.stopping = False
        """No more modules are to be loaded: rc1 ends when the one that is being loaded has been."""
        self.beside = False
        """The instance goes on meanwhile (`fluxlet.broker.beside`): that no more modules are wanted is no failure."""

    @property
    def _backing(self) -> str:
        """The module that keeps what content has."""
        return self._broker.attributes.visible.get("content.backing-module", "content-sqlite")

    async def run(self, name: str) -> int:
        """Does it, and returns an exit code.

        Args:
            name: "rc1" or "rc3".
        """
        started = monotonic()

        def complain(text: str) -> None:
            self._broker.log.write(LOG_ERR, f"{name}.0: {text}")

        code = await (self._rc1(complain) if name == "rc1" else self._rc3(complain))
        severity = LOG_ERR if code else LOG_INFO
        text = f"{name}.0: flux modprobe {name} Exited (rc={code}) {monotonic() - started:.1f}s"
        self._broker.log.write(severity, text)
        return code

    async def _rc1(self, complain: Callable[[str], None]) -> int:
        broker = self._broker
        try:
            loads = plan(broker.rank, broker.config, broker.attributes.visible, self._environ)
        except ValueError as exc:
            complain(f"flux-modprobe: {exc}")
            return 1
        try:
            restore = None if broker.rank else restore_words(broker.attributes.visible)
        except OSError as exc:
            complain(f"content.restore: {exc.filename}: {exc.strerror}")
            return 1
        code = 0
        for load in loads:
            if self.beside:
                await self._pass()
            if self.stopping:
                return self._stopped
            args = load.args
            if restore is not None and load.module == self._backing:
                args = [*args, "truncate"]
            if restore is not None and load.module == "kvs":
                code = await self._restore(restore, complain)
                if code:
                    return code
            try:
                await self._handle.rpc("module.load", {"path": load.module, "args": args})
            except OSError as exc:
                complain(f"flux-modprobe: load {load.module}: {exc.strerror}")
                code = 1
                if "broker.recovery-mode" not in broker.attributes.names():
                    return code
        if not self.stopping:
            code = await self._tasks(RC1_TASKS, complain) or code
        # A signal that comes while the last module is being loaded is one all the same.
        return self._stopped if self.stopping else code

    @property
    def _stopped(self) -> int:
        """The exit code of rc1 if it has been told to stop."""
        return 0 if self.beside else 128 + SIGHUP

    async def _pass(self) -> None:
        """Lets the loop look after everything else."""
        passed = FutureState()
        passed.ctx = self._handle.core
        self._broker.reactor.timer(0.0, 0.0, lambda: passed.fulfil(None)).start()
        await Future(passed)

    async def _rc3(self, complain: Callable[[str], None]) -> int:
        code = await self._tasks(RC3_TASKS, complain)
        had_kvs = "kvs" in self._broker.modules
        for module in reversed(list(self._broker.modules.values())):
            if module.internal or module.name in FIRST or module.name not in self._broker.modules:
                continue
            if module.name == self._backing and had_kvs:
                code = await self._dump(complain) or code
            try:
                await self._handle.rpc("module.remove", {"name": module.name})
            except OSError as exc:
                complain(f"flux-modprobe: remove {module.name}: {exc.strerror}")
                code = 1
        return code

    async def _restore(self, words: list[str], complain: Callable[[str], None]) -> int:
        """Before the KVS is there: what it is to begin with."""
        code = await self._flux("rc1.0", words)
        if not code:
            try:
                restored(self._broker.attributes.visible)
            except OSError as exc:
                complain(f"content.restore: {exc.filename}: {exc.strerror}")
                return 1
        return code

    async def _dump(self, complain: Callable[[str], None]) -> int:
        """When the KVS is gone, and has left a checkpoint."""
        attributes = self._broker.attributes.visible
        try:
            words = dump_words(attributes, time())
            if words is None:
                return 0
            await self._handle.rpc("content.flush")
            code = await self._flux("rc3.0", words)
            if not code:
                dumped(attributes, words[-1])
        except OSError as exc:
            complain(f"content.dump: {exc.filename or 'content.flush'}: {exc.strerror}")
            return 1
        return code

    async def _flux(self, label: str, words: list[str]) -> int:
        """Runs a command; its exit code."""
        ended = FutureState()
        ended.ctx = self._handle.core
        self._command(label, words, ended.fulfil)
        await Future(ended)
        return int(ended.value)

    async def _tasks(
        self, tasks: list[Callable[[Flux, Broker], Awaitable[None]]], complain: Callable[[str], None]
    ) -> int:
        for task in tasks:
            try:
                await task(self._handle, self._broker)
            except OSError as exc:
                complain(f"{task.__name__.replace('_', '-')}: {exc.strerror}")
                return 1
        return 0
