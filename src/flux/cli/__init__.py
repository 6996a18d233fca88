"""Commands and what they are made of."""
