"""``flux run``: submits a job, and attaches to it (spec 08, 6.2)."""

from __future__ import annotations

import sys
from typing import Any

from flux.cli.base import SubmitBaseCmd

__all__ = ["RunCmd"]


class RunCmd(SubmitBaseCmd):
    """The command. Arguments as of MiniCmd."""

    def __init__(self, prog: str, usage: str | None = None, description: str | None = None) -> None:
        super().__init__(prog, usage or "flux run [OPTIONS...] COMMAND [ARGS...]", description)
        self.parser.add_argument("--wait-event", metavar="NAME", help="Attach until the job's event NAME")

    def main(self, args: Any) -> int:
        """Runs the command; its exit code is that of the job."""
        from flux.cli.attach import Attach, Options

        options = Options(
            label_io=args.label_io,
            show_events=args.verbose > 1,
            show_exec=args.verbose > 2,
            unbuffered=args.unbuffered,
            wait_event=args.wait_event,
        )
        if args.input is not None and (ranks := _idset(args.input)) is not None:
            options = options._replace(stdin_ranks=ranks)
            args.input = None
        jobid = self.submit(args)
        if args.verbose:
            print(f"jobid: {jobid}", file=sys.stderr, flush=True)
        return Attach(self.handle(), jobid, str(jobid), options).run()


def _idset(text: str) -> str | None:
    """The text, if it is an idset: tasks, and not the name of a file."""
    from flux.idset import IDset

    try:
        return text if len(IDset(text)) else None
    except ValueError:
        return None
