"""The claims of the paper, each with what we found: ``docs/claims.md``."""
