"""The module `job-info`: what the KVS holds of jobs, for those whom it concerns (spec 08, section 1)."""
