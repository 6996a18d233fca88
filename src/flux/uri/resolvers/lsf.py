"""lsf:JOBID — the instance that an LSF job of a CSM cluster runs (spec 04, section 6).

CSM tells which hosts a job has; on the first of them that has a broker of ours, that broker is asked, by ssh.
"""

from __future__ import annotations

import os
import re

from flux.uri.resolvers.slurm import output_of
from flux.uri.uri import JobURI, URIResolverPlugin, URIResolverURI

#: Prints the URI of the first broker of the user, on its host.
_SCRIPT = "for p in $(pgrep -u $(id -u) flux-broker); do flux uri --remote pid:$p && exit 0; done; exit 1"


def _hosts(jobid: str) -> list[str]:
    """The hosts of a job, the one it was launched from first."""
    text = output_of("csm_allocation_query", "-j", jobid)
    found = re.search(r"^compute_nodes:\s*\n((?:\s*-\s*\S+\n?)*)", text, re.MULTILINE)
    return re.findall(r"-\s*(\S+)", found[1]) if found else []


class URIResolver(URIResolverPlugin):
    """Resolves lsf:JOBID."""

    def describe(self) -> str:
        """For help."""
        return "Get URI for a given LSF Job ID"

    def resolve(self, uri: URIResolverURI) -> JobURI:
        """The instance that LSF job `uri.path` runs. Raises ValueError, OSError if there is no CSM or ssh."""
        jobid = uri.path
        if not (jobid.isascii() and jobid.isdecimal()):
            raise ValueError(f"{jobid} is not an LSF job id")
        for host in _hosts(jobid):
            try:
                found = output_of(os.environ.get("FLUX_SSH", "ssh"), host, _SCRIPT)
            except ValueError:
                continue  # no broker there
            return JobURI(found.strip())
        raise ValueError(f"no Flux instance found in LSF job {jobid}")
