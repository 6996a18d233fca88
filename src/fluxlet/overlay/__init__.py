"""The overlay network: the tree of brokers, and what each knows of the ranks below it."""
