"""``--resources-shape`` and ``--resources-json``: resources as they go into a jobspec (RFC 46, RFC 14)."""

from __future__ import annotations

import json
from typing import Any

from flux.cli.plugin import CLIPlugin

_EXCLUSIVE = "`--resources-shape` and `--resources-json` are mutually exclusive arguments. Use only one."


class ResourcesPlugin(CLIPlugin):
    """Replaces the resources section of jobspecs."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, prefix="resources")
        self.add_option("--shape", metavar="SHAPE", help="Set the resources of the job, as a shape (RFC 46)")
        self.add_option("--json", metavar="FILE", help="Set the resources of the job, from a file of JSON (RFC 14)")

    def preinit(self, args: Any) -> None:
        """Refuses both; slots of an instance need not be counted, too."""
        if args.shape is None and args.json is None:
            return
        if args.shape is not None and args.json is not None:
            raise ValueError(_EXCLUSIVE)
        if getattr(args, "nslots", 1) is None and args.nodes is None:
            args.nslots = 1

    def modify_jobspec(self, args: Any, jobspec: Any) -> None:
        """Puts in what the option says. Raises ValueError, OSError."""
        if args.shape is not None:
            from flux.shape.parser import ShapeParser

            jobspec.jobspec["resources"] = ShapeParser().parse(args.shape)
        elif args.json is not None:
            jobspec.jobspec["resources"] = _read(args.json)


def _read(path: str) -> list[Any]:
    with open(path, encoding="utf-8") as file:
        try:
            found = json.load(file)
        except ValueError as exc:
            raise ValueError(f"--resources-json: {path}: {exc}") from None
    resources = found.get("resources") if isinstance(found, dict) else found
    if not isinstance(resources, list):
        raise ValueError(f"--resources-json: {path}: neither a list of resources nor an object with one")
    return resources
