"""The module `cron`: runs commands again and again: by time, date or event (spec 03, 13.8).

calendar.py   which moments match
schedules.py  when an entry is due
entry.py      entries and tasks as clients see them
process.py    a task's command, run by `rexec`
service.py    the module: requests, timers, events
"""
