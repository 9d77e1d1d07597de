"""Small convolutional nets: one for images of 8x8, one for larger ones."""

from torch import nn

from adai.lab.models.layers import conv_bn_relu


class SmallNet(nn.Sequential):
    """Two convolutions with batch norm, pooling, a linear layer: 9,978 parameters for 8x8 images in 10 classes.

    It maps images (N, channels, size, size) to logits (N, classes).
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
    """Three convolutions with batch norm, pooling after each, a linear layer: 29,178 parameters for 28x28 grey images.

    It maps images (N, channels, size, size), 8x8 or larger, to logits (N, classes). Use it for a quick run on MNIST or
    CIFAR at the paper's learning rates. Do not use `SmallNet` there: for images of 28x28 its linear layer has 6,272
    inputs, while this one's has 576, which makes the loss so much sharper that training at lr 1 may blow up.
    """

    def __init__(self, channels: int = 1, size: int = 28, classes: int = 10) -> None:
        super().__init__(
            conv_bn_relu(channels, 16, 3),
            nn.MaxPool2d(2),
            conv_bn_relu(16, 32, 3),
            nn.MaxPool2d(2),
            conv_bn_relu(32, 64, 3),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * (size // 8) ** 2, classes),
        )


class PlainNet(nn.Sequential):
    """Two 5x5 convolutions with pooling, a linear layer, no batch norm: 28,938 parameters for 28x28 grey images.

    From images (N, channels, size, size) to logits (N, classes). Without batch norm the loss is sharper, and a learning
    rate that is too large kills the net for good.
    """

    def __init__(self, channels: int = 1, size: int = 28, classes: int = 10) -> None:
        super().__init__(
            nn.Conv2d(channels, 16, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * (size // 4) ** 2, classes),
        )
