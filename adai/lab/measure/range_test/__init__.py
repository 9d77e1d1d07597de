"""The learning-rate range test: for a model of your own, or for a run of the lab over several seeds."""
