"""The command line: one line per option, one call per command. The only room that imports sweep, tracking and report."""
