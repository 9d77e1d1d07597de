"""DenseNet-121 for small images.

Source: G. Huang, Z. Liu, L. van der Maaten and K. Weinberger, Densely Connected Convolutional Networks,
arXiv 1608.06993.
"""

import torch
from torch import Tensor, nn

from adai.lab.models.layers import GlobalAverage, he_initialize

GROWTH = 32  # k: channels that each layer adds
LAYERS = (6, 12, 24, 16)  # in each dense block; Table 1, DenseNet-121


class DenseLayer(nn.Module):
    """Adds `GROWTH` channels to its input: BN-ReLU-1x1 to 4 k channels, BN-ReLU-3x3 to k (DenseNet-B)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.new = nn.Sequential(*_bn_relu_conv(inputs, 4 * GROWTH, 1), *_bn_relu_conv(4 * GROWTH, GROWTH, 3))

    def forward(self, x: Tensor) -> Tensor:
        """From (N, inputs, H, W) to (N, inputs + k, H, W)."""
        return torch.cat([x, self.new(x)], dim=1)


def densenet121(channels: int = 3, size: int = 32, classes: int = 100) -> nn.Sequential:
    """DenseNet-121 (k = 32, compression 1/2): 7,048,548 parameters for 32x32 colour images in 100 classes.

    It maps images (N, channels, size, size) to logits (N, classes). The blocks are those of the ImageNet version; the
    stem is a 3x3 convolution to 2 k channels without pooling, so 32x32 images enter the first block at full size.
    """
    width = 2 * GROWTH
    net = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False))
    for i, layers in enumerate(LAYERS):
        for _ in range(layers):
            net.append(DenseLayer(width))
            width += GROWTH
        if i < len(LAYERS) - 1:  # a transition layer halves channels and size
            net.extend([*_bn_relu_conv(width, width // 2, 1), nn.AvgPool2d(2)])
            width //= 2
    net.extend([nn.BatchNorm2d(width), nn.ReLU(inplace=True), GlobalAverage(), nn.Linear(width, classes)])
    he_initialize(net)
    return net


def _bn_relu_conv(inputs: int, outputs: int, kernel: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), convolution
