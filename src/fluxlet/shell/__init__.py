"""The job shell: one process a rank, which runs the tasks of all jobs there (spec 07, section 5).

    job-exec -> job-shell (a module on each rank) ~~socket~~ this process -> tasks

Pure parts, each in a file of its own: `allocation` and `layout` (which task where), `taskmap`, `mustache`,
`environment`, `options`, `affinity`, `events` (lines of eventlogs), `streams` (output as it is buffered), `pmi`.
Around them: `task` (a process), `job` (what this rank does for one job; `plan`, what is the same for all jobs alike,
`prepare` and `launch`, how it begins), `server` (all jobs, one connection).

The process is the child of a keeper (`keeper`): whatever ends it, nothing that its tasks have started remains.
"""
