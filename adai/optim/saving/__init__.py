"""Creating, saving and loading state, and converting an SGD."""
