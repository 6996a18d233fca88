"""The module `job-exec`: runs jobs that have their resources (RFC 32; spec 07, section 4).

`machine` is the life of a job as a table, `job` what is known of one. Around them: `guests` (namespaces and eventlogs),
`kill` (how a job is ended), and who runs it: `resident` (our shell process on each rank), `bulk` (a shell of the user's
choice, a process for each job and rank), `testexec` (nobody). What is to be stored goes through `store`.
"""
