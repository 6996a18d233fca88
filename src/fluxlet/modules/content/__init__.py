"""The module `content`: the cache of blobs that every rank has (spec 05, section 2)."""
