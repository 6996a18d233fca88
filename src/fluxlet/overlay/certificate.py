"""CURVE certificates: a pair of keys, and the file that it is kept in (spec 04, 3.5)."""

from __future__ import annotations

import os
import re
import stat
from typing import NamedTuple

_BANNER = "#  ZeroMQ CURVE **Secret** Certificate\n#  DO NOT DISTRIBUTE\n"
_entry = re.compile(r'[ \t]+([A-Za-z0-9.-]+) *= *"([^"]*)"[ \t]*').fullmatch


class CertificateError(Exception):
    """A certificate that cannot be used; the text says why, and which file."""


class Certificate(NamedTuple):
    """A pair of keys, each 40 characters of Z85, and what is said about them."""

    public: str
    secret: str
    metadata: dict[str, str]

    @classmethod
    def new(cls, metadata: dict[str, str] | None = None) -> Certificate:
        """A new pair of keys."""
        import zmq  # only who needs it pays for it

        public, secret = zmq.curve_keypair()
        return cls(public.decode(), secret.decode(), dict(metadata or {}))

    def text(self) -> str:
        """What the file of this certificate says."""
        lines = [_BANNER, "metadata"]
        lines += [f'    {name} = "{value}"' for name, value in self.metadata.items()]
        lines += ["curve", f'    public-key = "{self.public}"', f'    secret-key = "{self.secret}"', ""]
        return "\n".join(lines)

    def write(self, path: str) -> None:
        """Writes the file, for its owner alone. Raises OSError."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            os.fchmod(fd, 0o600)  # whatever the file was before
            file.write(self.text())

    @classmethod
    def read(cls, path: str) -> Certificate:
        """The certificate in a file. Raises CertificateError; also for one that others may read."""
        try:
            with open(path, encoding="utf-8") as file:
                mode = os.fstat(file.fileno()).st_mode
                if mode & (stat.S_IRWXG | stat.S_IRWXO):
                    raise CertificateError(f"{path}: readable by group/other")
                text = file.read(65536)
        except OSError as exc:
            raise CertificateError(f"{path}: {exc.strerror}") from None
        except UnicodeDecodeError:
            raise CertificateError(f"{path}: not a certificate") from None
        return cls.parse(text, path)

    @classmethod
    def parse(cls, text: str, path: str) -> Certificate:
        """The certificate that a file's text is. Raises CertificateError."""
        import zmq

        sections: dict[str, dict[str, str]] = {}
        section: dict[str, str] | None = None
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            if not line[0].isspace():
                section = sections.setdefault(line.strip(), {})
                continue
            found = _entry(line)
            if found is None or section is None:
                raise CertificateError(f"{path}:{number}: not a certificate")
            section[found[1]] = found[2]
        keys = sections.get("curve", {})
        public, secret = keys.get("public-key", ""), keys.get("secret-key", "")
        for name, key in (("public-key", public), ("secret-key", secret)):
            if len(key) != 40:
                raise CertificateError(f"{path}: no {name} of 40 characters")
        try:
            matching = zmq.curve_public(secret.encode()) == public.encode()
        except (zmq.ZMQError, ValueError):
            matching = False
        if not matching:
            raise CertificateError(f"{path}: public-key and secret-key are no pair")
        return cls(public, secret, sections.get("metadata", {}))

    @property
    def raw_public(self) -> bytes:
        """The public key in 32 bytes, as the authentication protocol has it."""
        return decode_key(self.public)


def decode_key(key: str) -> bytes:
    """The 32 bytes of a key of 40 characters. Raises ValueError."""
    from zmq.utils import z85

    if len(key) != 40 or not key.isascii():
        raise ValueError(f"'{key}' is no key")
    try:
        return z85.decode(key)
    except KeyError:
        raise ValueError(f"'{key}' is no key") from None
