"""Names and pictures of job states and results (spec 08, 2.2 and 3.3).

Formats, as the C library has them: ``L`` long, ``l`` long in lower case, ``S`` short, ``s`` short in lower case.
"""

from __future__ import annotations

import sys

from flux.core.job_names import RESULTS, STATES, UNKNOWN

PENDING = 14
RUN, CLEANUP = 16, 32
INACTIVE = 64

_STATE_PICTURES = {1: "🎁", 2: "🛑", 4: "🚦", 8: "📅", 16: "🏃", 32: "🗑", 64: "💀"}
_RESULT_PICTURES = {1: ("😀", ":-)"), 2: ("💩", ":'-("), 4: ("💥", "%-|"), 8: ("⌛", "(-_-)")}
_NO_RESULT = "\u3000"  # as wide as a picture


def _spelled(names: tuple[str, str], fmt: str) -> str:
    text = names[fmt in ("S", "s")]
    return text.lower() if fmt in ("l", "s") else text


def statetostr(stateid: int, fmt: str = "L") -> str:
    """The name of a state."""
    return _spelled(STATES.get(stateid, UNKNOWN), fmt)


def resulttostr(resultid: int | str, fmt: str = "L") -> str:
    """The name of a result; "" for none (``""``)."""
    return "" if resultid == "" else _spelled(RESULTS.get(int(resultid), UNKNOWN), fmt)


def statustostr(stateid: int, resultid: int | str, fmt: str = "L") -> str:
    """The name of a job's status: the state while it is active, then the result."""
    return resulttostr(resultid, fmt) if stateid == INACTIVE else statetostr(stateid, fmt)


def _shown(picture: str, otherwise: str) -> str:
    """A picture, if stdout can show it."""
    try:
        picture.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return otherwise
    return picture


def statetoemoji(stateid: int) -> str:
    """A picture of a state; its letter where stdout cannot show that."""
    letter = statetostr(stateid, "S")
    return _shown(_STATE_PICTURES.get(stateid, letter), letter)


def resulttoemoji(resultid: int | str) -> str:
    """A picture of a result, a wide blank for none."""
    if resultid == "":
        return _shown(_NO_RESULT, "")
    return _shown(*_RESULT_PICTURES.get(int(resultid), ("?", "?")))


def statustoemoji(stateid: int, resultid: int | str) -> str:
    """A picture of a status."""
    return resulttoemoji(resultid) if stateid == INACTIVE else statetoemoji(stateid)
