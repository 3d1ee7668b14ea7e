"""The command line: one line per option, one call per command. Only it imports sweep, tracking and report."""
