"""The paper's tables and figures: what to run, and what to draw."""
