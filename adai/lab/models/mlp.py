"""A fully connected net for numbers in a table."""

from torch import Tensor, nn


class MLP(nn.Module):
    """Two hidden layers with rectifiers: features (N, features) to one number each, (N,).

    Args:
        features: the number of features of an example.
        width: the number of units in each hidden layer.
    """

    def __init__(self, features: int, width: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """A number for each example, (N,)."""
        out: Tensor = self.layers(features)
        return out.squeeze(1)
