"""The module `content-sqlite`: blobs and checkpoints in an SQLite database (spec 05, section 3).

database.py   the file, and what is done with it
early.py      the memory of an instance that has stored next to nothing yet
settings.py   configuration and arguments
module.py     the service
"""
