"""Exit statuses of the commands, besides 0 and 2 for bad input."""

FAILED = 1
INTERRUPTED = 130  # the shell's status for Ctrl-C
