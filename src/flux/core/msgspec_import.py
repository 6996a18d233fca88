"""Importing msgspec for the first time, without what it would take along.

It looks for `typing_extensions`, for Pythons that are older than ours; many an environment has that, and reading it
takes as long as all of `import flux`. What msgspec wants of it is in `typing`, too.
"""

from __future__ import annotations

import sys

_UNWANTED = "typing_extensions"


def load_msgspec() -> None:
    """Imports msgspec. Raises ImportError if it is not installed."""
    if _UNWANTED in sys.modules or "msgspec" in sys.modules:
        import msgspec.json
    else:
        sys.modules[_UNWANTED] = None  # type: ignore[assignment]  # whoever imports it now is told that there is none
        try:
            import msgspec.json  # noqa: F401
        finally:
            del sys.modules[_UNWANTED]
