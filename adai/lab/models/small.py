"""A small convolutional net for small images."""

from torch import nn


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
