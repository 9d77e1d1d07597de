"""How close training is to the edge of stability."""
