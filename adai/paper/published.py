"""The results that the paper prints."""

from adai.lab.results.stats import Spread
from adai.paper.experiments import NINE

# Table 1 of arXiv 2006.15815: mean and standard deviation of the lowest test error over the epochs, in percent, of
# three runs.
TABLE1 = {
    key: {name: Spread(float(mean), float(sd)) for name, (mean, sd) in zip(NINE, cells, strict=True)}
    for key, cells in {
        ("cifar10", "resnet18"): (
            (4.74, 0.14), (5.01, 0.03), (6.53, 0.03), (6.16, 0.18), (5.08, 0.07), (5.65, 0.08), (5.12, 0.04),
            (5.87, 0.12), (6.01, 0.10),
        ),
        ("cifar10", "vgg16"): (
            (6.00, 0.09), (6.42, 0.02), (7.31, 0.25), (7.14, 0.14), (6.48, 0.13), (6.76, 0.12), (6.15, 0.06),
            (6.90, 0.22), (6.56, 0.04),
        ),
        ("cifar100", "resnet34"): (
            (20.79, 0.22), (21.52, 0.37), (27.16, 0.55), (25.53, 0.19), (22.99, 0.40), (22.87, 0.13), (22.72, 0.10),
            (23.57, 0.12), (24.41, 0.40),
        ),
        ("cifar100", "densenet121"): (
            (19.59, 0.38), (19.81, 0.33), (25.11, 0.15), (24.43, 0.09), (21.55, 0.14), (22.69, 0.15), (21.10, 0.23),
            (22.15, 0.36), (22.27, 0.22),
        ),
        ("cifar100", "googlenet"): (
            (20.55, 0.32), (21.21, 0.29), (26.12, 0.33), (25.53, 0.17), (21.29, 0.17), (23.18, 0.31), (21.82, 0.17),
            (24.24, 0.16), (22.23, 0.15),
        ),
    }.items()
}  # fmt: skip
