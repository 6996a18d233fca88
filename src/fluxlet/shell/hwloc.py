"""The option hwloc.xmlfile: the topology of the node in a file, for programs that use the library (spec 07, 5.13)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from fluxlet.shell.options import ShellError

if TYPE_CHECKING:
    from flux.core.future_state import RpcState
    from fluxlet.shell.job import Job


def write_topology(job: Job, then: Callable[[], None]) -> None:
    """Writes what the resource service of this node knows of it, tells tasks where, and calls `then`."""

    def answered(state: RpcState) -> None:
        if job.failed or job.ended:
            return
        if state.errnum:
            job.fail(ShellError(f"hwloc.xmlfile: {state.error_text()}"))
            return
        path = os.path.join(job.tmpdir, "hwloc.xml")
        try:
            with open(path, "xb") as file:
                file.write((state.value.raw or b"").rstrip(b"\0"))
        except OSError as exc:
            job.fail(ShellError(f"hwloc.xmlfile: {path}: {exc.strerror}"))
            return
        job.env["HWLOC_XMLFILE"] = path
        job.env.pop("HWLOC_COMPONENTS", None)
        then()

    job.server.connection.ask(b"resource.topo-get", None, answered)
