"""Client commands, one file each: its table as COMMAND, and `main(argv)`, which returns the exit code."""
