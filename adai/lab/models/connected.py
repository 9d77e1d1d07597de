"""The fully connected net of the paper's Figure 7."""

from torch import nn


class ThreeLayerNet(nn.Sequential):
    """Three linear layers with rectifiers between them: 89,610 parameters for 28x28 grey images in 10 classes.

    From images (N, channels, size, size) to logits (N, classes). For curvature and gradient noise: without batch norm
    the loss is a plain mean over images, so each image has a gradient of its own. The paper (Xie et al.,
    arXiv 2006.15815, Appendix C) does not print the width.

    Args:
        channels: of an image.
        size: of an image, in pixels.
        classes: how many.
        width: units in each of the two hidden layers; about 10 where the whole Hessian is to fit in memory.
    """

    def __init__(self, channels: int = 1, size: int = 28, classes: int = 10, width: int = 100) -> None:
        super().__init__(
            nn.Flatten(),
            nn.Linear(channels * size**2, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, classes),
        )
