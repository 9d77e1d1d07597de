"""VGG-16 with batch norm, for small images.

Source: K. Simonyan and A. Zisserman, Very Deep Convolutional Networks, arXiv 1409.1556, Table 1, column D.
"""

from torch import nn

from adai.lab.models.layers import GlobalAverage, conv_bn_relu, he_initialize

# Widths of the 3x3 convolutions; each stage ends in max pooling.
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def vgg16(channels: int = 3, size: int = 32, classes: int = 10) -> nn.Sequential:
    """VGG-16 with batch norm: 14,724,042 parameters for 32x32 colour images in 10 classes.

    It maps images (N, channels, size, size) to logits (N, classes). It differs from the paper in two ways, as is usual
    for images of this size: batch norm follows each convolution, and one linear layer replaces the three, which would
    add 119 million weights on 1x1 features.
    """
    net = nn.Sequential()
    inputs = channels
    for widths in STAGES:
        for width in widths:
            net.append(conv_bn_relu(inputs, width, 3))
            inputs = width
        net.append(nn.MaxPool2d(2, ceil_mode=True))  # rounding up lets images below 32x32 through all five
    net.extend([GlobalAverage(), nn.Linear(inputs, classes)])
    he_initialize(net)
    return net
