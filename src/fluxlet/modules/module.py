"""The service `module`: what is loaded (spec 03, 13.4)."""

from __future__ import annotations

from typing import Any

from flux.brokermod import request_handler
from flux.message import Message
from fluxlet.broker.loaded import LoadedModule
from fluxlet.service import Service, check_no_payload


class Modules(Service):
    """Tells of the broker's modules."""

    @request_handler("list", allow_guest=True)
    def list_modules(self, msg: Message) -> None:
        """Answers `{"mods": [{"name", "path", "idle", "status", "services", "sendqueue", "recvqueue"}, ...]}`."""
        check_no_payload(msg)
        added: dict[Any, list[str]] = {}
        for name, endpoint in self.broker.router.services.items():
            added.setdefault(endpoint, []).append(name.decode("utf-8", "surrogateescape"))
        modules = [self.broker.modules[name] for name in sorted(self.broker.modules)]
        shown = [self._describe(module, added.get(module, [])) for module in modules if not module.internal]
        self.handle.respond(msg, {"mods": shown})

    def _describe(self, module: LoadedModule, services: list[str]) -> dict[str, Any]:
        return {
            "name": module.name,
            "path": module.path_name,
            "idle": int(self.broker.now - module.last_used),
            "status": module.status,
            "services": [module.name, *sorted(name for name in services if name != module.name)],
            # What is for a module of this process is handed to it at once: there are no queues.
            "sendqueue": 0,
            "recvqueue": 0,
        }
