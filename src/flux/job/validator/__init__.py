"""Validators: what decides whether a job may be submitted (spec 06, 15.12)."""

from __future__ import annotations

from flux.job.validator.validator import JobValidator, ValidatorPlugin

__all__ = ["JobValidator", "ValidatorPlugin"]
