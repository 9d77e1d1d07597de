"""What a run and a comparison come to: the one reader of what is on disk."""
