"""Layers that several networks use."""

from torch import Tensor, nn


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A convolution that keeps the size (divided by the stride), and batch norm, whose shift replaces the bias."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return convolution, nn.BatchNorm2d(outputs)


def conv_bn_relu(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """`conv_bn` and a rectifier: images (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
    return nn.Sequential(*conv_bn(inputs, outputs, kernel, stride), nn.ReLU(inplace=True))


class GlobalAverage(nn.Module):
    """Mean over all positions: (N, C, H, W) to (N, C)."""

    def forward(self, x: Tensor) -> Tensor:
        """The means."""
        return x.mean(dim=(2, 3))


def he_initialize(net: nn.Module) -> None:
    """Draw every convolution's weights from N(0, 2 / fan out); all other parameters keep torch's initialisation.

    Source: K. He et al., Delving Deep into Rectifiers, arXiv 1502.01852, Eq. 14.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
