"""Simulations of the theory's subjects, escapes from minima and displacement at saddles, with the optimizers' rules."""
