"""`flux keygen`: makes the certificate that the brokers of an instance share (spec 04, 3.5)."""

from __future__ import annotations

import os
import re
import socket
import sys
import time

from flux.cli.options import Command, Option, UsageError
from flux.version import CORE_VERSION

COMMAND = Command(
    "keygen",
    "Generate a certificate for the network between brokers",
    [
        Option("n", "name", "Set the name of the certificate (default: the hostname).", "NAME"),
        Option("", "meta", "Add metadata to the certificate: KEY=VAL, separated by commas. Repeatable.", "KEYVALS"),
    ],
    arguments="[PATH]",
    words=(0, 1),
    complete=("@file",),
    description="Writes a new pair of CURVE keys to PATH, for its owner to read. All brokers of an instance that is "
    "started by a configuration have the same file: who has it can be a broker of that instance.",
    examples=(("flux keygen /etc/flux/system/curve.cert", "The certificate of a system instance."),),
    see_also=("start", "broker"),
)
_is_key = re.compile(r"[A-Za-z0-9.-]+").fullmatch


def _metadata(name: str | None, extra: list[str]) -> dict[str, str]:
    """What the certificate says of itself. Raises UsageError."""
    import zmq

    hostname = socket.gethostname()
    found = {
        "name": hostname if name is None else name,
        "keygen.hostname": hostname,
        "keygen.time": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "keygen.userid": str(os.getuid()),
        "keygen.flux-core-version": CORE_VERSION,
        "keygen.zmq-version": zmq.zmq_version(),
    }
    for word in ",".join(extra).split(","):
        key, equals, value = word.partition("=")
        if word and (not equals or not _is_key(key) or '"' in value or "\n" in value):
            raise UsageError(f"flux-keygen: --meta: '{word}' is not KEY=VAL")
        if word:
            found[key] = value
    return found


def main(argv: list[str]) -> int:
    """Runs `flux keygen`; returns the exit code."""
    try:
        parsed = COMMAND.parse(argv)
        metadata = _metadata(parsed.value("name"), parsed.values("meta"))
    except UsageError as exc:
        print(exc.text, file=sys.stderr)
        return exc.status
    from fluxlet.overlay.certificate import Certificate

    certificate = Certificate.new(metadata)
    if not parsed.words:
        print("flux-keygen: WARNING: add PATH argument to save generated certificate", file=sys.stderr)
        return 0
    path = parsed.words[0]
    try:
        certificate.write(path)
    except OSError as exc:
        print(f"flux-keygen: {path}: {exc.strerror}", file=sys.stderr)
        return 1
    return 0
