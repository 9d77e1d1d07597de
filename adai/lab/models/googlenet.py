"""GoogLeNet for small images.

Source: C. Szegedy et al., Going Deeper with Convolutions, arXiv 1409.4842, Table 1.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from adai.lab.models.layers import GlobalAverage, conv_bn_relu, he_initialize


class Widths(NamedTuple):
    """Channels inside an inception module, named as the columns of Table 1."""

    conv1: int
    reduce3: int
    conv3: int
    reduce5: int
    conv5: int
    pool: int

    @property
    def total(self) -> int:
        """The number of output channels."""
        return self.conv1 + self.conv3 + self.conv5 + self.pool


# Stages 3, 4 and 5, with max pooling between them.
STAGES = (
    (Widths(64, 96, 128, 16, 32, 32), Widths(128, 128, 192, 32, 96, 64)),
    (
        Widths(192, 96, 208, 16, 48, 64),
        Widths(160, 112, 224, 24, 64, 64),
        Widths(128, 128, 256, 24, 64, 64),
        Widths(112, 144, 288, 32, 64, 64),
        Widths(256, 160, 320, 32, 128, 128),
    ),
    (Widths(256, 160, 320, 32, 128, 128), Widths(384, 192, 384, 48, 128, 128)),
)


class Inception(nn.Module):
    """Four parallel branches (Figure 2b). Two 3x3 convolutions replace the 5x5 one: their receptive field is the same.

    Source of the replacement: C. Szegedy et al., Rethinking the Inception Architecture, arXiv 1512.00567, section 3.1.
    """

    def __init__(self, inputs: int, widths: Widths) -> None:
        super().__init__()
        w = widths
        self.branches = nn.ModuleList(
            [
                conv_bn_relu(inputs, w.conv1, 1),
                nn.Sequential(conv_bn_relu(inputs, w.reduce3, 1), conv_bn_relu(w.reduce3, w.conv3, 3)),
                nn.Sequential(
                    conv_bn_relu(inputs, w.reduce5, 1),
                    conv_bn_relu(w.reduce5, w.conv5, 3),
                    conv_bn_relu(w.conv5, w.conv5, 3),
                ),
                nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), conv_bn_relu(inputs, w.pool, 1)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """From (N, inputs, H, W) to (N, total, H, W)."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)


def googlenet(channels: int = 3, size: int = 32, classes: int = 100) -> nn.Sequential:
    """GoogLeNet with batch norm: 6,250,596 parameters for 32x32 colour images in 100 classes.

    It maps images (N, channels, size, size) to logits (N, classes). For images of this size the stem is one 3x3
    convolution. The auxiliary classifiers are left out, because batch norm makes them unnecessary. Dropout of 40 % is
    the paper's.
    """
    width = 192
    net = nn.Sequential(conv_bn_relu(channels, width, 3))
    for i, stage in enumerate(STAGES):
        if i > 0:
            net.append(nn.MaxPool2d(3, stride=2, padding=1))
        for widths in stage:
            net.append(Inception(width, widths))
            width = widths.total
    net.extend([GlobalAverage(), nn.Dropout(0.4), nn.Linear(width, classes)])
    he_initialize(net)
    return net
