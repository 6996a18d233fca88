"""The module `kvs-watch`: lookups in the KVS that go on (spec 05, section 9)."""
