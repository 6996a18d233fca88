"""The commands that `flux` runs in its own process: a table, nothing is imported before it is wanted.

A command is a function `main(argv) -> exit code`, argv being the words after its name. Commands that only talk to
an instance are in `flux.cli.commands`, those that are part of one in `fluxlet.cmd`.
"""

from __future__ import annotations

#: The options of `flux` itself: letter, name, what it does.
FLAGS = (
    ("h", "help", "Display this message."),
    ("v", "verbose", "Be verbose about environment and command search."),
    ("V", "version", "Display versions."),
    ("p", "parent", "Run the command against the parent instance. Repeatable."),
    ("r", "root", "Run the command against the root instance."),
)

#: The groups of the list that `flux --help` prints, in order; "" is not listed.
GROUPS = (
    ("jobs", "Commands to run and submit jobs"),
    ("list", "Commands to list and interact with jobs"),
    ("instance", "Commands to get information about a Flux instance"),
    ("other", "Other commands"),
)

#: What older releases of Flux had, and scripts and tutorials still have, -> what to use in its place.
FORMER: dict[str, tuple[str, ...]] = {
    "cancelall": ("cancel --all",),
    "hwloc": ("resource",),
    "jobspec": ("submit --dry-run",),
    "mini": ("run", "submit", "bulksubmit", "batch", "alloc"),
    "wreck": ("jobs", "job"),
    "wreckrun": ("run",),
}

#: name -> (where its function is, its group, what it does in a line)
BUILTINS: dict[str, tuple[str, str, str]] = {
    "R": ("fluxlet.cmd.R:main", "other", "Create and manipulate resource sets"),
    "admin": ("flux.cli.commands.admin:main", "instance", "Commands for the administrator of an instance"),
    "alloc": ("flux.cli.commands.alloc:main", "jobs", "Start an instance, and work in it"),
    "archive": ("flux.cli.commands.archive:main", "other", "Put files into the KVS, and have them on other nodes"),
    "batch": ("flux.cli.commands.batch:main", "jobs", "Submit a script that has an instance to itself"),
    "broker": ("fluxlet.cmd.broker:main", "", "Run one broker of a Flux instance"),
    "bulksubmit": ("flux.cli.commands.bulksubmit:main", "jobs", "Submit a job for each combination of inputs"),
    "cancel": ("flux.cli.commands.cancel:main", "list", "Cancel jobs"),
    "cgroup": ("flux.cli.commands.cgroup:main", "", "Tell about the control group that this program is in"),
    "completion": ("fluxlet.cmd.completion:main", "other", "Print the completion of a shell"),
    "config": ("fluxlet.cmd.config:main", "instance", "Query and change the configuration of the instance"),
    "content": ("flux.cli.commands.content:main", "instance", "Store and load blobs"),
    "cron": ("flux.cli.commands.cron:main", "instance", "Run commands by time, date or event"),
    "dmesg": ("flux.cli.commands.dmesg:main", "instance", "Print or follow the log of the instance"),
    "dump": ("flux.cli.commands.dump:main", "instance", "Write what is in the key-value store to an archive"),
    "env": ("flux.cli.commands.env:main", "other", "Print or run a command in the environment of Flux"),
    "event": ("flux.cli.commands.event:main", "other", "Publish and subscribe to events"),
    "exec": ("flux.cli.commands.exec:main", "instance", "Run a command on ranks of the instance"),
    "filemap": ("flux.cli.commands.filemap:main", "", "Keep files in the KVS (deprecated: flux archive)"),
    "fsck": ("flux.cli.commands.fsck:main", "instance", "Check the integrity of the KVS on disk"),
    "gc": ("flux.cli.commands.gc:main", "instance", "Free what is not referred to from the backing store"),
    "getattr": ("flux.cli.commands.getattr:main", "instance", "Get a broker attribute"),
    "help": ("fluxlet.cmd.help:main", "other", "Show help for a command"),
    "hostlist": ("flux.cli.commands.hostlist:main", "other", "Fetch, combine and print host lists"),
    "keygen": ("fluxlet.cmd.keygen:main", "other", "Generate a certificate for the network between brokers"),
    "job": ("flux.cli.commands.job:main", "list", "Do things to jobs, and look at them"),
    "jobs": ("flux.cli.commands.jobs:main", "list", "List jobs"),
    "housekeeping": ("flux.cli.commands.housekeeping:main", "list", "List and end the housekeeping of jobs"),
    "job-exec-override": ("flux.cli.commands.job_exec_override:main", "", "Have simulated jobs start and finish"),
    "job-frobnicator": ("flux.cli.commands.job_frobnicator:main", "", "Run frobnicators on jobs"),
    "job-validator": ("flux.cli.commands.job_validator:main", "", "Run validators on jobs"),
    "jobtap": ("flux.cli.commands.jobtap:main", "other", "Load, remove and look at plugins of the job manager"),
    "lptest": ("flux.cli.commands.lptest:main", "other", "Print a ripple of characters"),
    "kvs": ("flux.cli.commands.kvs:main", "other", "Read and change the key-value store"),
    "logger": ("flux.cli.commands.logger:main", "other", "Write to the log of the instance"),
    "lsattr": ("flux.cli.commands.lsattr:main", "instance", "List broker attributes"),
    "modprobe": ("flux.cli.commands.modprobe:main", "other", "Load and remove modules with what they need"),
    "module": ("flux.cli.commands.module:main", "other", "Load, remove and look at broker modules"),
    "module-python-exec": ("fluxlet.cmd.module_python_exec:main", "", "Run a Python file as a broker module"),
    "multi-prog": ("flux.cli.commands.multi_prog:main", "jobs", "Run another program in each task of a job"),
    "overlay": ("flux.cli.commands.overlay:main", "instance", "Show how the brokers of an instance do"),
    "pgrep": ("flux.cli.commands.pgrep:main", "list", "Find jobs by name or id"),
    "pmi": ("fluxlet.cmd.pmi:main", "other", "Try out the PMI of what has started this program"),
    "pstree": ("flux.cli.commands.pstree:main", "list", "Show jobs, and the jobs in them, as a tree"),
    "pkill": ("flux.cli.commands.pkill:main", "list", "Cancel jobs by name or id"),
    "post-job-event": ("flux.cli.commands.post_job_event:main", "list", "Post an event to the eventlog of a job"),
    "ping": ("flux.cli.commands.ping:main", "instance", "Measure round trips to a service"),
    "proxy": ("fluxlet.cmd.proxy:main", "other", "Run a command with access to another instance"),
    "python": ("flux.cli.commands.python:main", "other", "Run the Python of this Flux"),
    "queue": ("flux.cli.commands.queue:main", "list", "Look at queues, and open and close them"),
    "relay": ("fluxlet.cmd.relay:main", "", "Relay messages between standard input and output and an instance"),
    "resource": ("flux.cli.commands.resource:main", "instance", "List and manipulate resources"),
    "restore": ("flux.cli.commands.restore:main", "instance", "Read an archive into the key-value store"),
    "run": ("flux.cli.commands.run:main", "jobs", "Run a job, and show what it writes"),
    "setattr": ("flux.cli.commands.setattr:main", "instance", "Set a broker attribute"),
    "shutdown": ("flux.cli.commands.shutdown:main", "instance", "Shut down an instance"),
    "submit": ("flux.cli.commands.submit:main", "jobs", "Submit jobs"),
    "sproc": ("flux.cli.commands.sproc:main", "instance", "List, wait for and signal the processes of flux exec"),
    "start": ("fluxlet.cmd.start:main", "other", "Start a Flux instance"),
    "startlog": ("flux.cli.commands.startlog:main", "instance", "List Flux instance start and stop times"),
    "terminus": ("fluxlet.cmd.terminus:main", "other", "Programs on terminals that stay when one leaves"),
    "top": ("flux.cli.commands.top:main", "list", "Watch the jobs and resources of an instance"),
    "update": ("flux.cli.commands.update:main", "list", "Change attributes of an active job"),
    "uptime": ("flux.cli.commands.uptime:main", "instance", "Tell how long an instance has been running"),
    "uri": ("flux.cli.commands.uri:main", "instance", "Resolve a job or another target to a Flux URI"),
    "version": ("flux.cli.commands.version:main", "other", "Print versions"),
    "watch": ("flux.cli.commands.watch:main", "list", "Show what jobs write, and wait for them to end"),
}
