"""Plugins of the commands that submit jobs: a module each, with classes derived from `flux.cli.plugin.CLIPlugin`."""
