"""``python -m fluxlet.shell``: started by the module job-shell; its connection is FLUX_URI."""

from __future__ import annotations

import gc
import os
import sys


def main() -> int:
    """Splits the keeper off, then serves until the broker goes or says so."""
    from fluxlet.shell.keeper import split

    split()
    # What is imported and made at the start stays: collecting it over and over again would be for nothing.
    gc.disable()
    from flux.core.msgspec_import import load_msgspec

    load_msgspec()
    from fluxlet.shell.server import serve

    return serve(os.environ["FLUX_URI"], os.environ.pop("FLUXLET_SHELL_TOKEN"))


if __name__ == "__main__":
    sys.exit(main())
