"""What `[policy]` and `[queues]` of the configuration give to jobspecs: defaults, and constraints of queues. Pure.

The configuration is as the instance has accepted it (spec 06, 10.1). ValueErrors are texts for the submitter.
"""

from __future__ import annotations

from typing import Any

from flux.util import parse_fsd


class QueuePolicy:
    """See the module.

    Args:
        config: the instance's configuration.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.queues: dict[str, Any] | None = config.get("queues")
        self._general = _defaults(config)

    def _find(self, name: Any) -> dict[str, Any]:
        if not isinstance(name, str) or self.queues is None or name not in self.queues:
            raise ValueError(f"Invalid queue '{name}' specified")
        queue: dict[str, Any] = self.queues[name]
        return queue

    def _parent(self, queue: dict[str, Any]) -> dict[str, Any] | None:
        """The queue that a virtual one stands for."""
        return self._find(queue["parent"]) if "parent" in queue else None

    def apply_defaults(self, jobspec: dict[str, Any]) -> None:
        """Fills in what a jobspec (an object) does not say."""
        system = jobspec["attributes"].setdefault("system", {})
        name = system.get("queue") or self._general.get("queue")
        defaults = dict(self._general)
        if self.queues is not None:
            if name is None:
                raise ValueError("no queue specified")
            queue = self._find(name)
            parent = self._parent(queue)
            if parent is not None:
                defaults.update(_defaults(parent))
            defaults.update(_defaults(queue))
        if name is not None:
            system["queue"] = name
        for key, value in defaults.items():
            if key == "duration":
                if not system.get("duration"):
                    system[key] = value
            elif key not in system:
                system[key] = value

    def apply_constraints(self, jobspec: dict[str, Any]) -> None:
        """Has a job run only where its queue may."""
        system = jobspec["attributes"].get("system", {})
        name = system.get("queue")
        if name is None or self.queues is None:
            return
        queue = self._find(name)
        requires = list((self._parent(queue) or queue).get("requires", []))
        if not requires:
            return
        present = system.get("constraints")
        if isinstance(present, dict) and isinstance(present.get("properties"), list):
            present["properties"] += [each for each in requires if each not in present["properties"]]
        elif present:
            system["constraints"] = {"and": [present, {"properties": requires}]}
        else:
            system["constraints"] = {"properties": requires}


def _defaults(table: dict[str, Any]) -> dict[str, Any]:
    """The defaults in the policy of a table; durations in seconds."""
    system = table.get("policy", {}).get("jobspec", {}).get("defaults", {}).get("system", {})
    found = dict(system)
    duration = system.get("duration")
    if duration is not None:
        found["duration"] = float(parse_fsd(duration) if isinstance(duration, str) else duration)
    return found
