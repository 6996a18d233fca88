"""Runs the benchmarks: a table, and JSON.

    python benchmarks/run.py [--json FILE] [--reference PATH] [--full] [NAME...]

`--reference PATH` runs the same scenarios under another `flux` executable and prints ratios. `--full` includes
the million RPCs of the memory scenario, without it a tenth of them, and has 100,000 inactive jobs rather than 4,000.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
OURS = Path(sys.executable).parent / "flux"

#: name: (figure shown, unit, aim, where the aim comes from)
FIGURES = {
    "sync_rpc": ("ratio", "x bare ping-pong", "<= 2.2", "issue 2"),
    "pipelined_rpc": ("us", "us each, 250 in flight", "< 5", "issue 2; flux-core 36"),
    "pipelined_get": ("us", "us each, 250 in flight, waited for", "< 5", "issue 2"),
    "asyncio_rpc": ("ratio", "x bare ping-pong, asyncio", "", ""),
    "events": ("per_second", "events/s to another process", "> 100000", "issue 2; flux-core 48,000"),
    "memory": ("after_all_mb", "MB, broker after the RPCs", "< 40, flat", "issue 2"),
    "start": ("ms", "ms, `flux start true`", "< 150", "issue 2; flux-core 700"),
    "getattr": ("cpu_ms", "ms of CPU, `flux getattr size`", "< 45", "issue 3; flux-core 2"),
    "scheduling": ("module_us_64", "us of CPU of the broker a job, KVS and all", "< 120", "issue 6"),
    "job_latency": ("ms", "ms, a real job submitted and waited for", "< 5", "issue 6; flux-core 37"),
    "job_executor": ("per_second", "real jobs/s through FluxExecutor", "", "flux-core 60"),
    "job_following": ("by_executor_client_us", "us of the client's CPU, a job through FluxExecutor", "", ""),
    "job_submit": ("per_second", "submissions/s, many at once", "> 6000", "issue 6; flux-core 1,740"),
    "job_submit_client": ("cpu_us", "us of the client's CPU, a submission", "< 60", "issue 6"),
    "job_bulksubmit": ("times_single", "x as fast as a `flux submit` for each", "", "one process for all"),
    "job_nested": (
        "ratio",
        "x `flux start`, from `flux batch` to the script's first line",
        "",
        "a job, and an instance in it",
    ),
    "exec_true": ("per_second", "real `true` jobs/s, end to end", "> 1000", "issue 6; flux-core 80 to 93"),
    "hyperqueue": ("ratio", "x HyperQueue's real `true` jobs/s", "", "issue 6; pip install hyperqueue"),
    "exec_simulated": ("per_second", "simulated jobs/s", "> 3000", "issue 6; flux-core 180 to 260"),
    "exec_flood": ("worst_ping_ms", "ms, the longest ping under a flood", "< 50", "issue 6"),
    "exec_flood_reader": ("worst_ping_ms", "ms, the same, and `flux run` reads it", "< 50", "issue 6"),
    "exec_tasks": ("worst_wait_ms", "ms, another job's wait while 256 tasks start", "", "each job its own shell"),
    "job_list": ("by_name_ms", "ms, ten of one name among the inactive", "< 2", "issue 6"),
    "job_memory": ("broker_mb", "MB, broker with those inactive jobs", "", "issue 6"),
    "overlay_rpc": ("us_a_level", "us more for each level, 16 ranks", "", "flux-core 75 to 90"),
    "overlay_event": ("us", "us, an event to clients of 16 ranks", "", "flux-core 760 at level 4"),
    "overlay_exec": ("ms", "ms, `flux exec -n true` on 16 ranks", "", "flux-core 26"),
    "overlay_barrier": ("ms", "ms, a barrier of 1,000 on 16 ranks", "", "none in flux-core 0.88"),
    "kvs_commit": ("per_second", "put+commit/s, one client", "> 10000", "issue 4; flux-core 506 to 1,800"),
    "kvs_pipelined": ("per_second", "appends/s, not waited for one by one", "", "flux-core 13,500"),
    "kvs_commit_8": ("per_second", "put+commit/s, 8 clients", "", "issue 4"),
    "kvs_get": ("per_second", "gets/s, one client", "> 50000", "issue 4; flux-core 15,300 to 23,000"),
    "kvs_batch": ("ms", "ms, one commit of 5,000 puts", "< 40", "issue 4; flux-core 61"),
    "kvs_values": ("put_100kB", "put+commit/s of 100 kB", "", "flux-core 198"),
    "kvs_watch": ("per_second", "values/s to 100 watchers", "", "issue 4"),
    "kvs_list": ("ms", "ms, listing 10,000 keys", "", "flux-core 54"),
    "kvs_memory": ("after_mb", "MB, broker after the overwrites", "flat", "issue 4"),
    "import_flux": ("ms", "ms over bare Python", "< 30", "issue 2"),
}


def wall_ms(command: list[str], times: int) -> list[float]:
    """Wall-clock milliseconds of runs of a command."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found.append((time.perf_counter() - start) * 1e3)
    return found


def start(flux: Path) -> dict[str, Any]:
    """`flux start true`, beside the start of a bare interpreter."""
    ours, bare = [], []
    for _ in range(10):
        ours += wall_ms([str(flux), "start", "true"], 1)
        bare += wall_ms([sys.executable, "-c", "pass"], 1)
    return {"ms": statistics.median(ours), "best_ms": min(ours), "bare_python_ms": statistics.median(bare)}


def cpu_ms(command: list[str], environ: dict[str, str]) -> float:
    """Milliseconds of CPU time, user and system, of one run of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3


def getattr_size(flux: Path) -> dict[str, Any]:
    """The CPU time of a command that asks one question, beside interpreters that do nothing."""
    socket = Path(tempfile.mkdtemp(prefix="flux-bench-")) / "socket"
    uri = f"local://{socket}"
    environ = {**os.environ, "FLUX_URI": uri}
    with subprocess.Popen([str(flux), "start", "-Sbroker.rc2_none", f"-Slocal-uri={uri}"]) as instance:
        try:
            while not socket.exists():
                time.sleep(0.05)
            rounds = [
                (
                    cpu_ms([str(flux), "getattr", "size"], environ),
                    cpu_ms([sys.executable, "-c", "pass"], environ),
                    cpu_ms([sys.executable, "-S", "-E", "-c", "pass"], environ),
                )
                for _ in range(21)
            ][1:]
        finally:
            instance.terminate()
            instance.wait()
            socket.parent.rmdir()
    ours, bare, barest = (sorted(column) for column in zip(*rounds, strict=True))
    return {
        "cpu_ms": ours[0],
        "median_cpu_ms": statistics.median(ours),
        "over_bare_python": ours[0] / bare[0],
        "over_python_S_E": ours[0] / barest[0],
    }


def import_flux(flux: Path) -> dict[str, Any]:
    """`import flux` over bare Python, in the interpreter that runs this."""
    if flux != OURS:
        python = [str(flux), "python"]
    else:
        python = [sys.executable]
    with_flux, bare = [], []
    for _ in range(15):
        with_flux += wall_ms([*python, "-c", "import flux"], 1)
        bare += wall_ms([*python, "-c", "pass"], 1)
    return {"ms": min(with_flux) - min(bare), "bare_python_ms": min(bare)}


@cache
def inside(flux: Path, name: str, full: bool) -> dict[str, Any]:
    """A scenario of scenarios.py, or of jobs.py, in an instance of its own."""
    python = [sys.executable] if flux == OURS else [str(flux), "python"]
    files = {"job": "jobs.py", "exec": "shell.py", "overlay": "overlay.py", "kvs": "kvs.py"}
    file = files.get(name.partition("_")[0], "scenarios.py")
    ranks = ["--test-size=16", "-Stbon.topo=kary:2"] if file == "overlay.py" else []
    command = [str(flux), "start", *ranks, *python, str(HERE / file), name]
    if name in ("memory", "kvs_memory") and not full:
        command.append("100000")
    if name == "job_list" and full:
        command.append("100000")
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(flux: Path, name: str, full: bool) -> dict[str, Any]:
    """One scenario under one Flux."""
    if name == "start":
        return start(flux)
    if name == "import_flux":
        return import_flux(flux)
    if name == "getattr":
        return getattr_size(flux)
    if name == "scheduling":
        import scheduling

        return scheduling.measure(OURS)  # not of another flux: its core is ours
    if name == "hyperqueue":
        import against_hyperqueue

        return against_hyperqueue.measure(flux)
    # Memory is measured among the lists, which it takes a while to have something for.
    return inside(flux, "job_list" if name == "job_memory" else name, full)


def main() -> None:
    parser = argparse.ArgumentParser(description="Fluxlet's benchmarks")
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--reference", metavar="PATH", type=Path, help="another flux executable to compare with")
    parser.add_argument("--full", action="store_true", help="the long form of the memory scenario")
    parser.add_argument("names", nargs="*", choices=[[], *FIGURES], help="scenarios; all if none is named")
    args = parser.parse_args()
    # An installed package has its bytecode; in an editable checkout the first run makes it, if it may.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run([str(OURS), "start", "true"], check=True)
    results: dict[str, Any] = {"machine": {"cores": os.cpu_count(), "python": sys.version.split()[0]}}
    print(f"{'scenario':15} {'figure':>10}  {'unit':38} {'aim':>10}  {'also':40}")
    for name in args.names or [name for name in FIGURES if name != "hyperqueue" or importlib.util.find_spec(name)]:
        key, unit, aim, _ = FIGURES[name]
        found = measure(OURS, name, args.full)
        results[name] = {"ours": found}
        also = " ".join(f"{other}={value:.4g}" for other, value in found.items() if other != key)
        line = f"{name:15} {found[key]:10.4g}  {unit:38} {aim:>10}  {also:40}"
        if args.reference:
            theirs = measure(args.reference, name, args.full)
            results[name]["reference"] = theirs
            results[name]["reference_over_ours"] = theirs[key] / found[key]
            line += f"  reference {theirs[key]:.4g} ({theirs[key] / found[key]:.2f} of ours)"
        print(line, flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
