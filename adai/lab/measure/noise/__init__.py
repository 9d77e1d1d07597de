"""The noise of minibatch gradients."""
