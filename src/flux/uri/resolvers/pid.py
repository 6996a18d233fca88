"""pid:PID — the instance that a process is in, or that it is a broker of (spec 04, section 6).

What is read is /proc: of our own processes, on this host.
"""

from __future__ import annotations

import os

from flux.uri.uri import JobURI, URIResolverPlugin, URIResolverURI

_BROKER = "flux-broker"


def process_uri(pid: int) -> JobURI:
    """The instance of a process of this host. Raises ValueError if that cannot be found out."""
    try:
        uris = [_environment_uri(pid)]
        if _BROKER in _name(pid):
            # It may have the URI of the instance that it was started in, and so its helpers. The instance's
            # own is what it gives to the programs that it starts.
            uris = [uri for child in _children(pid) if (uri := _environment_uri(child)) not in ("", *uris)]
    except FileNotFoundError:
        raise ValueError(f"PID {pid} not found") from None
    except OSError as exc:
        raise ValueError(f"PID {pid}: {os.strerror(exc.errno or 0)}") from None
    if not uris or not uris[0]:
        raise ValueError(f"PID {pid} doesn't seem to have a FLUX_URI")
    return JobURI(uris[0])


def _name(pid: int) -> str:
    with open(f"/proc/{pid}/comm", errors="replace") as file:
        return file.read().rstrip("\n")


def _environment_uri(pid: int) -> str:
    """FLUX_URI of a process, "" if it has none."""
    with open(f"/proc/{pid}/environ", "rb") as file:
        for entry in file.read().split(b"\0"):
            if entry.startswith(b"FLUX_URI="):
                return os.fsdecode(entry.partition(b"=")[2])
    return ""


def _children(pid: int) -> list[int]:
    """The children whose environment can be read, the first one first."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                # The name, in brackets, may contain anything. Then: state, parent, ... and, 20th, the start time.
                fields = file.read().rpartition(b")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended meanwhile
        if int(fields[1]) == pid and os.access(f"/proc/{entry}/environ", os.R_OK):
            found.append((int(fields[19]), int(entry)))
    return [child for _, child in sorted(found)]


class URIResolver(URIResolverPlugin):
    """Resolves pid:PID."""

    def describe(self) -> str:
        """For help."""
        return "Get URI for a given Flux process ID"

    def resolve(self, uri: URIResolverURI) -> JobURI:
        """The instance of process `uri.path`. Raises ValueError."""
        if not (uri.path.isascii() and uri.path.isdecimal()):
            raise ValueError(f"{uri.path} is not a process id")
        return process_uri(int(uri.path))
