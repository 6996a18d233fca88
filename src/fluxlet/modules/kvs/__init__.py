"""The module `kvs`: the key-value store (spec 05, sections 4 to 8; RFC 11).

treeobj.py       tree objects as canonical JSON text
directory.py     a directory, decoded
directories.py   those in memory, by blobref
keys.py          keys and their components
transaction.py   operations applied to a tree
lookup.py        the walk to a key
requests.py      payloads, and what guests may commit
space.py         what one broker knows of a namespace
loader.py        blobs from the content store
walker.py        runs transactions and walks, and gets them what they need
module.py        the service on every rank
leader.py        commits, namespaces and checkpoints, on rank 0
follower.py      the same as seen from the other ranks
"""
