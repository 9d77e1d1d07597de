"""How sharp the loss is around a set of parameters."""
