"""The optimizers of a comparison: recipes, what a name means, and two optimizers that are written here."""
