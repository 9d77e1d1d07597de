"""Tables and figures, from files on disk only."""
