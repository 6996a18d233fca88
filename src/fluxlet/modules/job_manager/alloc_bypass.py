"""What `flux jobtap load alloc-bypass.so` loads: nothing, for jobs may bring their resources without it.

People load flux-core's plugin of that name before they submit such a job (`--setattr=system.alloc-bypass.R=...`).
"""


class Plugin:
    """No methods."""

    name = "alloc-bypass"
