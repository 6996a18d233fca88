"""Help for tests of schedulers and tools."""
