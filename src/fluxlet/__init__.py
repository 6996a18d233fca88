"""The embedded Flux instance: broker, services, and the commands that start them."""
