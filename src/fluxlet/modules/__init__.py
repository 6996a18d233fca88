"""The instance's services, one module each."""
