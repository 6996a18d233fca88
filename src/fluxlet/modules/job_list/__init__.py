"""The module `job-list`: what jobs there are (spec 08, section 2)."""
