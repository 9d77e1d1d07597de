"""What the `adai` command does, a module for each subcommand; `adai.cli` holds the options."""
