"""Frobnicators: what changes jobspecs when they are submitted (spec 06, 15.12)."""

from __future__ import annotations

from flux.job.frobnicator.frobnicator import FrobnicatorPlugin, JobFrobnicator

__all__ = ["FrobnicatorPlugin", "JobFrobnicator"]
