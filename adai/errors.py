"""The error that a command reports in one line, with exit status 2."""


class UserError(Exception):
    """The user's request cannot be carried out. The message says in one line what is wrong and what to do."""
