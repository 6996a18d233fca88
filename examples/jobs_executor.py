"""Jobs as futures of concurrent.futures: run it with `flux start python examples/jobs_executor.py`.

What is written for a ThreadPoolExecutor needs little change: `submit` takes a jobspec instead of a function, and the
result of the future is the job's exit code. A job that was canceled, or could not be started, raises JobException.
"""

from __future__ import annotations

from concurrent.futures import as_completed

from flux.job import FluxExecutor, JobException, JobspecV1


def main() -> None:
    started = []
    with FluxExecutor() as executor:
        futures = {}
        for code in range(4):
            future = executor.submit(JobspecV1.from_command(["sh", "-c", f"exit {code}"]))
            future.add_event_callback("start", lambda future, event: started.append(future.jobid()))
            futures[future] = code
        missing = executor.submit(JobspecV1.from_command(["/no/such/program"]))
        codes = sorted(future.result() for future in as_completed(futures))
        try:
            missing.result()
        except JobException as exc:
            print(f"{exc.type}: {exc.note.rpartition(': ')[2]}")
    print(f"exit codes {codes}; {len(set(started) & {future.jobid() for future in futures})} were seen to start")


if __name__ == "__main__":
    main()
