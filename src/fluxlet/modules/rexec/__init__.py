"""Remote execution: processes started, fed, heard and signaled through messages (RFC 42; spec 04, section 5).

payloads.py   requests, and the sentences about those that will not do. Pure
command.py    what is to be run, and its options. Pure
output.py     what a process writes, cut into lines or chunks. Pure
launch.py     starting the process
process.py    one process, its descriptors and its end
listeners.py  who hears of a process: a client, the log, whoever waits
flow.py       output waits for its reader, on whatever rank that is
aftermath.py  what processes leave behind, and the end of all
server.py     the protocol: what each request does. For brokers, and for the shells of jobs
module.py     the module `rexec` of a broker
"""
