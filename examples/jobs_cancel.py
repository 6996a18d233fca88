"""Cancel jobs: run it with `flux start python examples/jobs_cancel.py`.

One job runs when it is canceled, the other has not even got resources. Both end as CANCELED; the first was killed, and
has the exit code of that. A third job is not canceled but sent a signal, for which it is prepared.
"""

from __future__ import annotations

import signal

import flux
from flux.job import JobspecV1, cancel, event_wait, kill, result, submit

PREPARED = "trap 'exit 7' USR1; echo ready; while :; do sleep 0.05; done"


def main() -> None:
    with flux.Flux() as h:
        running = submit(h, JobspecV1.from_command(["sleep", "60"]))
        held = submit(h, JobspecV1.from_command(["sleep", "60"]), urgency=0)
        event_wait(h, running, "shell.start", "guest.exec.eventlog")
        for jobid in (running, held):
            cancel(h, jobid, reason="not needed any more")
        for name, jobid in (("running", running), ("held", held)):
            info = result(h, jobid)
            print(f"{name}: {info.result}, {info.exception.note}, return code {info.returncode}")

        prepared = submit(h, JobspecV1.from_command(["bash", "-c", PREPARED]))
        for event in flux.job.event_watch(h, prepared, "guest.output"):
            if event.context.get("data") == "ready\n":
                kill(h, prepared, signal.SIGUSR1)
        print(f"prepared: exit code {result(h, prepared).returncode}")


if __name__ == "__main__":
    main()
