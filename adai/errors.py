"""What a command answers with one line and exit status 2."""


class UserError(Exception):
    """The user asked for something that cannot be done; the message says what is wrong and what to do, in one line."""
