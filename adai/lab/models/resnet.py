"""Residual networks: ResNet-8 and ResNet-20 for CIFAR, ResNet-18 and ResNet-34 in a CIFAR form, ResNet-50 for ImageNet.

Source: K. He, X. Zhang, S. Ren and J. Sun, Deep Residual Learning for Image Recognition, arXiv 1512.03385.
"""

from collections.abc import Callable, Iterator

from torch import Tensor, nn

from adai.lab.models.layers import GlobalAverage, conv_bn, conv_bn_relu, he_initialize


class Residual(nn.Module):
    """relu(branch(x) + shortcut(x)): the building block of Figure 2.

    The shortcut is the identity if the shapes allow it, else a 1x1 convolution with batch norm (option B).
    """

    def __init__(self, branch: nn.Sequential, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.branch = branch
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*conv_bn(inputs, outputs, 1, stride))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """From (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y: Tensor = self.relu(self.branch(x) + self.shortcut(x))
        return y


def basic(inputs: int, width: int, stride: int) -> Residual:
    """Two 3x3 convolutions (Figure 5, left), with ``width`` output channels."""
    branch = nn.Sequential(conv_bn_relu(inputs, width, 3, stride), *conv_bn(width, width, 3))
    return Residual(branch, inputs, width, stride)


def bottleneck(inputs: int, width: int, stride: int) -> Residual:
    """1x1, 3x3 and 1x1 convolutions (Figure 5, right), with 4 ``width`` output channels.

    The stride is in the 3x3 convolution. The paper has it in the first 1x1, which ignores three of four pixels.
    Source: P. Goyal et al., arXiv 1706.02677, section 5.1.
    """
    branch = nn.Sequential(
        conv_bn_relu(inputs, width, 1), conv_bn_relu(width, width, 3, stride), *conv_bn(width, 4 * width, 1)
    )
    return Residual(branch, inputs, 4 * width, stride)


Block = Callable[[int, int, int], Residual]


def resnet8(channels: int = 3, size: int = 32, classes: int = 10) -> nn.Sequential:
    """ResNet-8 for small images: 78,042 parameters for 32x32 colour images in 10 classes.

    It maps images (N, channels, size, size) to logits (N, classes). It is built like the nets of section 4.2: a 3x3
    stem of 16 channels, three stages of widths 16, 32 and 64 with n blocks each, and 6n + 2 layers in all. Here n is 1,
    smaller than any there. Shortcuts are those of `Residual`; that section uses option A, which has no parameters.
    """
    return _of_section_4_2(1, channels, classes)


def resnet20(channels: int = 3, size: int = 32, classes: int = 10) -> nn.Sequential:
    """ResNet-20 for small images, as `resnet8` with n = 3: 272,474 parameters for 32x32 colour images in 10 classes."""
    return _of_section_4_2(3, channels, classes)


def resnet18(channels: int = 3, size: int = 32, classes: int = 10) -> nn.Sequential:
    """ResNet-18 for small images: 11,173,962 parameters for 32x32 colour images in 10 classes.

    It maps images (N, channels, size, size) to logits (N, classes). The CIFAR version has a 3x3 stem with stride 1 and
    no max pooling, so 32x32 images enter the blocks at full size; the widths are those of the ImageNet version.
    """
    return _assemble(conv_bn_relu(channels, 64, 3), _stages(basic, 1, (2, 2, 2, 2)), 512, classes)


def resnet34(channels: int = 3, size: int = 32, classes: int = 100) -> nn.Sequential:
    """ResNet-34 for small images, as `resnet18`: 21,328,292 parameters for 32x32 colour images in 100 classes."""
    return _assemble(conv_bn_relu(channels, 64, 3), _stages(basic, 1, (3, 4, 6, 3)), 512, classes)


def resnet50(channels: int = 3, size: int = 224, classes: int = 1000) -> nn.Sequential:
    """ResNet-50 for ImageNet: 25,557,032 parameters for colour images in 1000 classes.

    It maps images (N, channels, size, size) to logits (N, classes). A 7x7 stem with stride 2 and max pooling first
    shrink the images by a factor of 4 (Table 1), which is too coarse for 32x32 images.
    """
    stem = nn.Sequential(conv_bn_relu(channels, 64, 7, 2), nn.MaxPool2d(3, stride=2, padding=1))
    return _assemble(stem, _stages(bottleneck, 4, (3, 4, 6, 3)), 2048, classes)


def _of_section_4_2(n: int, channels: int, classes: int) -> nn.Sequential:
    return _assemble(conv_bn_relu(channels, 16, 3), _stages(basic, 1, (n, n, n), 16), 64, classes)


def _stages(block: Block, expansion: int, counts: tuple[int, ...], inputs: int = 64) -> Iterator[nn.Sequential]:
    """Stages with these counts of blocks. Each outputs ``expansion`` times its width; all but the first halve the size.

    The first stage is as wide as its ``inputs``, and each of the others twice as wide as the one before.
    """
    first = inputs
    for i, count in enumerate(counts):
        width = first * 2**i
        stage = nn.Sequential()
        for j in range(count):
            stage.append(block(inputs, width, 2 if i > 0 and j == 0 else 1))
            inputs = expansion * width
        yield stage


def _assemble(stem: nn.Sequential, stages: Iterator[nn.Sequential], features: int, classes: int) -> nn.Sequential:
    net = nn.Sequential(stem, *stages, GlobalAverage(), nn.Linear(features, classes))
    he_initialize(net)
    return net
