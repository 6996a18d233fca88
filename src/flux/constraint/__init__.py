"""Constraints: what a job requires of resources, what a listing selects (RFC 31, RFC 35)."""
