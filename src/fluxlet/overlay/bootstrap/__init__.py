"""How the brokers of an instance find each other."""
