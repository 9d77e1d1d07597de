"""The engines: one contract, several ways to carry out the rule."""
