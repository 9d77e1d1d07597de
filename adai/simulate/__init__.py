"""What the theory talks about, run: escapes from minima and displacement at saddles, with the shipped update rules."""
