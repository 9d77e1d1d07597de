"""The fully connected net of the paper's Figure 7, and narrow ones whose whole Hessian fits in memory."""

from torch import nn


class ThreeLayerNet(nn.Sequential):
    """Three linear layers with rectifiers between them: 89,610 parameters for 28x28 grey images in 10 classes.

    It maps images (N, channels, size, size) to logits (N, classes). Use it for curvature and gradient noise: without
    batch norm the loss is a plain mean over images, so each image has a gradient of its own. The paper (Xie et al.,
    arXiv 2006.15815, Appendix C) does not print the width.

    Args:
        channels: of an image.
        size: of an image, in pixels.
        classes: the number of classes.
        width: units in each of the two hidden layers.
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


def fc3_10(channels: int = 1, size: int = 28, classes: int = 10) -> ThreeLayerNet:
    """`ThreeLayerNet` of 10 units: 8,070 parameters for 28x28 grey images in 10 classes."""
    return ThreeLayerNet(channels, size, classes, width=10)


def fc3_4(channels: int = 1, size: int = 28, classes: int = 10) -> ThreeLayerNet:
    """`ThreeLayerNet` of 4 units: 3,210 parameters for 28x28 grey images in 10 classes."""
    return ThreeLayerNet(channels, size, classes, width=4)
