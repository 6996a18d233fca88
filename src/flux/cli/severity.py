"""The names of log severities, most serious first: index and number are the same (spec 03, 11.4)."""

SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
