"""slurm:JOBID — the instance that a Slurm job runs (spec 04, section 6).

On a host of the job Slurm tells which processes are the job's. From anywhere else, the question is put to the first
host of the job, by way of Slurm itself.
"""

from __future__ import annotations

import os
import subprocess

from flux.hostlist import Hostlist
from flux.uri.resolvers.pid import process_uri
from flux.uri.uri import JobURI, URIResolverPlugin, URIResolverURI


def output_of(*command: str) -> str:
    """What a program prints. Raises ValueError if it fails, with what it says; OSError if it cannot be run."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = done.stderr.strip() or f"exit code {done.returncode}"
        raise ValueError(f"{command[0]}: {reason}")
    return done.stdout


def _local_pids(jobid: str) -> list[int]:
    """The processes that are the first of their step on this host; none if the job is elsewhere."""
    try:
        lines = output_of("scontrol", "listpids", jobid).splitlines()
    except ValueError:
        return []  # the way in which scontrol says that there are none here
    # PID JOBID STEPID LOCALID GLOBALID; what is no task has a dash for LOCALID.
    rows = [line.split() for line in lines[1:]]
    return [int(row[0]) for row in rows if len(row) >= 4 and row[3] == "0" and row[0].isdecimal()]


def _first_host(jobid: str) -> str:
    hosts = Hostlist(output_of("squeue", "--noheader", f"--jobs={jobid}", "--format=%N").strip())
    if not hosts:
        raise ValueError(f"Slurm job {jobid} has no hosts: it is not running")
    return hosts[0]


class URIResolver(URIResolverPlugin):
    """Resolves slurm:JOBID."""

    def describe(self) -> str:
        """For help."""
        return "Get URI for a Flux instance running under Slurm"

    def resolve(self, uri: URIResolverURI) -> JobURI:
        """The instance that Slurm job `uri.path` runs. Raises ValueError, OSError if there is no Slurm."""
        jobid = uri.path
        if not (jobid.isascii() and jobid.isdecimal()):
            raise ValueError(f"{jobid} is not a Slurm job id")
        for pid in _local_pids(jobid):
            try:
                return process_uri(pid)
            except ValueError:
                continue  # a step that does not run Flux
        host = _first_host(jobid)
        if os.environ.get("SLURM_JOB_ID") == jobid and os.environ.get("SLURMD_NODENAME") == host:
            # We are the one that is asked below.
            raise ValueError(f"no Flux instance found in Slurm job {jobid}")
        where = ("--overlap", f"--jobid={jobid}", "-w", host, "-n1", "-N1")
        found = output_of("srun", *where, "flux", "uri", "--remote", f"slurm:{jobid}")
        return JobURI(found.strip())
