"""The parsedatetime library under the name of the copy that the reference bundles (spec 02, 13.2).

The name *is* the installed library, not a second copy of it: what is set on one is seen by the other.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...

else:
    try:
        import parsedatetime
    except ImportError as exc:
        raise ImportError(
            "dates and times in words need the parsedatetime library: pip install parsedatetime",
            name="parsedatetime",
        ) from exc
    sys.modules[__name__] = parsedatetime
