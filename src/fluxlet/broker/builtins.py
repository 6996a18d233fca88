"""The services that every broker has, and the order in which they are loaded.

The broker's own come first, which `module.list` does not show; then those that a user may see, replace or ask.
Their code is imported when they are loaded.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

#: As above; in `module.list`.
LISTED = {
    "config": "fluxlet.modules.config:Config",
    "connector-local": "fluxlet.modules.connector_local:ConnectorLocal",
    "groups": "fluxlet.modules.groups:Groups",
    "overlay": "fluxlet.modules.overlay:Overlay",
    "heartbeat": "fluxlet.modules.heartbeat:Heartbeat",
    "barrier": "fluxlet.modules.barrier:BarrierService",
}


def load_builtins(broker: Broker) -> None:
    """Loads the built-in services. Raises OSError if one cannot start, for the configuration, say."""
    for table, internal in ((INTERNAL, True), (LISTED, False)):
        for name, place in table.items():
            module, _, cls = place.partition(":")
            broker.load(name, getattr(import_module(module), cls), internal=internal)
