"""The paper's tables and figures: the runs that they need, and how to draw them."""
