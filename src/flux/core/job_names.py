"""Names of job states and results, by number: long and short (spec 08, 2.2 and 3.3)."""

from __future__ import annotations

STATES = {
    1: ("NEW", "N"),
    2: ("DEPEND", "D"),
    4: ("PRIORITY", "P"),
    8: ("SCHED", "S"),
    16: ("RUN", "R"),
    32: ("CLEANUP", "C"),
    64: ("INACTIVE", "I"),
    14: ("PENDING", "PD"),
    48: ("RUNNING", "RU"),
    62: ("ACTIVE", "A"),
}
RESULTS = {1: ("COMPLETED", "CD"), 2: ("FAILED", "F"), 4: ("CANCELED", "CA"), 8: ("TIMEOUT", "TO")}
UNKNOWN = ("(unknown)", "?")
