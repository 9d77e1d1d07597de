"""Exit statuses of the commands, beside 0 and 2 for bad input."""

FAILED = 1
INTERRUPTED = 130  # as the shell has it for Ctrl-C
