"""What all parameters share: the mean, the scale of gradients, who holds what."""
