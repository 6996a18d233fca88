"""The job manager: what becomes of jobs from submission to the end (spec 06)."""
