"""Follow many jobs while they run: run it with `flux start python examples/jobs_watch.py`.

A JobWatcher is what `flux submit --watch` and `flux watch` are made of: it follows the jobs that it is given, while the
reactor runs, and has the highest of their exit codes. Jobs may be added as they are accepted. With `progress=True` it
draws a bar on the last line of the terminal; without `output_callback` it prints what jobs write.
"""

from __future__ import annotations

import flux
from flux.job import JobspecV1, submit_async
from flux.job.watcher import JobWatcher

SCRIPT = 'case $1 in 4) echo "four!" >&2; exit 4;; *) echo "$1 squared is $(($1 * $1))";; esac'


def main() -> None:
    numbers: dict[int, int] = {}
    lines = []

    def written(jobid: int, stream: str | None, data: str | None) -> None:
        if data is not None:  # else that was all
            lines.append(f"{numbers[jobid]}: {'(no) ' if stream == 'stderr' else ''}{data}")

    with flux.Flux() as h:
        watcher = JobWatcher(h, output_callback=written).start()

        def accepted(future: flux.job.SubmitFuture, number: int) -> None:
            jobid = future.get_id()
            numbers[jobid] = number
            watcher.add_jobid(jobid)

        for number in range(1, 5):
            jobspec = JobspecV1.from_command(["sh", "-c", SCRIPT, "square", str(number)])
            submit_async(h, jobspec).then(accepted, number)
        h.reactor_run()  # until there is nothing left to follow
        watcher.stop()
    print("".join(sorted(lines)), end="")
    print(f"the worst exit code: {watcher.exitcode}")


if __name__ == "__main__":
    main()
