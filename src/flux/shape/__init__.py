"""Resource shapes (RFC 46): the resources section of a jobspec in one line."""
