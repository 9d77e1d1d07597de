"""The options of every command. Nothing here imports the lab: --help and a wrong option answer at once."""
