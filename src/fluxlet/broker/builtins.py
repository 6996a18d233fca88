"""The services that every broker has, and the order in which they are loaded.

The broker's own come first, which `module.list` does not show; then those that a user may see, replace or ask.
Their code is imported when they are loaded.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flux.brokermod import BrokerModule
    from fluxlet.broker.broker import Broker

#: Name, and where its class is; in order of loading.
INTERNAL = {
    "attr": "fluxlet.modules.attr:Attr",
    "log": "fluxlet.modules.log:LogService",
    "event": "fluxlet.modules.event:Event",
    "service": "fluxlet.modules.service:Services",
    "module": "fluxlet.modules.module:Modules",
    "broker": "fluxlet.modules.broker:BrokerService",
    "runat": "fluxlet.modules.runat:Runat",
    "shutdown": "fluxlet.modules.shutdown:Shutdown",
    "state-machine": "fluxlet.modules.state_machine:StateMachineService",
}

#: As above; in `module.list`. In order of loading: what a module needs comes before it.
LISTED = {
    "config": "fluxlet.modules.config:Config",
    "connector-local": "fluxlet.modules.connector_local:ConnectorLocal",
    "groups": "fluxlet.modules.groups:Groups",
    "rexec": "fluxlet.modules.rexec.module:Rexec",
    "overlay": "fluxlet.modules.overlay:Overlay",
    "heartbeat": "fluxlet.modules.heartbeat:Heartbeat",
    "cron": "fluxlet.modules.cron.service:Cron",
    "barrier": "fluxlet.modules.barrier:BarrierService",
    "content": "fluxlet.modules.content.module:Content",
    "content-sqlite": "fluxlet.modules.content_sqlite.module:ContentSqlite",
    "kvs": "fluxlet.modules.kvs.module:load",
    "kvs-watch": "fluxlet.modules.kvs_watch.module:KvsWatch",
    "job-info": "fluxlet.modules.job_info.module:JobInfo",
    "job-manager": "fluxlet.modules.job_manager.module:JobManager",
    "job-list": "fluxlet.modules.job_list.module:JobList",
    "job-ingest": "fluxlet.modules.job_ingest.module:JobIngest",
    "resource": "fluxlet.modules.resource.module:Resource",
    "sched-simple": "fluxlet.modules.sched.module:SchedSimple",
    "job-shell": "fluxlet.modules.job_shell:JobShell",
    "job-exec": "fluxlet.modules.job_exec.module:JobExec",
}

#: Those that are there for who asks for them, instead of another one.
ON_DEMAND = {
    "content-files": "fluxlet.modules.content_files:ContentFiles",
    "sched-fifo": "fluxlet.modules.sched.module:SchedFifo",
    "sched-backfill": "fluxlet.modules.sched.module:SchedBackfill",
}

#: Those of LISTED that are there before anybody can talk to the broker, and until nobody can any more. The others come
#: and go with rc1 and rc3 (`fluxlet.broker.rc`).
FIRST = ("config", "connector-local", "groups", "rexec", "overlay")

#: Those of LISTED that have nothing to do until they are asked (`fluxlet.broker.sleeping`); the attribute that gives
#: them something to do.
SLEEPING = {"rexec": None, "cron": "cron.directory", "job-info": None, "job-list": None}

#: The arguments with which rc1 loads them, if the configuration has no others.
ARGUMENTS = {"cron": ["sync=heartbeat.pulse"]}

#: Those of LISTED that only rank 0 has.
ONLY_RANK_0 = frozenset(("cron", "content-sqlite", "job-manager", "job-exec", "job-list", "sched-simple"))


def shown_path(name: str) -> str:
    """The path that `module.list` has for one of these: its name, for programs that load a module again by its path.

    It is "builtin", as in the reference, for those that there is nobody to load any more once they are gone.
    """
    return name if name not in FIRST and name not in INTERNAL else "builtin"


def load_first(broker: Broker) -> None:
    """Loads what a broker is nothing without. Raises OSError if one cannot start, for the configuration, say."""
    for name in INTERNAL:
        _load(broker, name, INTERNAL, internal=True)
    for name in FIRST:
        if name in SLEEPING:
            broker.load(name, partial(_make, name), sleeping=True)
        elif name in LISTED:
            _load(broker, name, LISTED)


def load_builtins(broker: Broker) -> None:
    """Loads all built-in services, for a broker that has no rc1. Raises as load_first."""
    load_first(broker)
    for name in LISTED:
        if name not in FIRST and (not broker.rank or name not in ONLY_RANK_0):
            _load(broker, name, LISTED)


def _make(name: str, *args: Any) -> BrokerModule:
    module, _, cls = LISTED[name].partition(":")
    made: BrokerModule = getattr(import_module(module), cls)(*args)
    return made


def _load(broker: Broker, name: str, table: dict[str, str], internal: bool = False) -> None:
    module, _, cls = table[name].partition(":")
    broker.load(name, getattr(import_module(module), cls), shown_path(name), internal=internal)
