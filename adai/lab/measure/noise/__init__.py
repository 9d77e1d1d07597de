"""What the noise of minibatch gradients is like."""
