"""The broker: routing (pure), its socket, its modules, and the process around them."""
