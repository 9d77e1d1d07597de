"""One run: a model in training, its metrics and its checkpoints."""
