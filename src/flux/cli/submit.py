"""``flux submit``: submits jobs, and may follow them (spec 08, 6.3)."""

from __future__ import annotations

from flux.cli.bulk import SubmitBulkCmd

__all__ = ["SubmitCmd"]


class SubmitCmd(SubmitBulkCmd):
    """The command. Arguments as of MiniCmd."""

    def __init__(self, prog: str, usage: str | None = None, description: str | None = None) -> None:
        super().__init__(prog, usage or "flux submit [OPTIONS...] COMMAND [ARGS...]", description)
