"""A training run: the model in training, its metrics and its checkpoints."""
