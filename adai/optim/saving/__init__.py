"""State as it is saved, loaded, and taken over from SGD."""
