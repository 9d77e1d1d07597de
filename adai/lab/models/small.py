"""Small convolutional nets: one for images of 8x8, one for larger ones."""

from torch import nn

from adai.lab.models.layers import GlobalAverage, conv_bn_relu


class SmallNet(nn.Sequential):
    """Two convolutions with batch norm, pooling, a linear layer: 9,978 parameters for 8x8 images in 10 classes.

    From images (N, channels, size, size) to logits (N, classes).
    """

    def __init__(self, channels: int = 1, size: int = 8, classes: int = 10) -> None:
        super().__init__(
            nn.Conv2d(channels, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * (size // 2) ** 2, classes),
        )


class ConvNet(nn.Sequential):
    """Three convolutions with batch norm and pooling, the mean over positions, a linear layer: 56,554 parameters.

    From images (N, channels, size, size), 8x8 or larger, to logits (N, classes). For a quick run on MNIST or CIFAR at
    the paper's learning rates. There `SmallNet` is of no use: its linear layer takes all positions, 6,272 numbers of an
    image of 28x28, and is so much sharper for it that training at such a rate blows up with one seed and not another.

    Args:
        channels: of an image.
        size: of an image; the net is the same for all.
        classes: how many.
    """

    def __init__(self, channels: int = 1, size: int = 28, classes: int = 10) -> None:
        del size
        super().__init__(
            conv_bn_relu(channels, 32, 3),
            nn.MaxPool2d(2),
            conv_bn_relu(32, 64, 3),
            nn.MaxPool2d(2),
            conv_bn_relu(64, 64, 3),
            GlobalAverage(),
            nn.Linear(64, classes),
        )
