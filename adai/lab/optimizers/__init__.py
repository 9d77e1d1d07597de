"""The optimizers of a comparison: recipes, and two that are written here."""
