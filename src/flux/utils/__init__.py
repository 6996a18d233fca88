"""Third-party libraries under the names of the copies that the reference bundles."""
