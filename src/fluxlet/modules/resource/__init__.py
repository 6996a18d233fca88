"""The service `resource`: what an instance has, and how that does (spec 07, section 2)."""
