"""Commands, one file each; `driver` finds and runs them."""
