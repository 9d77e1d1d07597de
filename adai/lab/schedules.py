"""How long the paper trains, and when it lowers the learning rate."""

from typing import NamedTuple


class Schedule(NamedTuple):
    """A whole training run: its epochs, its batch, and the epochs before which the learning rate is divided by 10."""

    epochs: int
    batch: int
    milestones: tuple[int, ...]

    def factor(self, epoch: int) -> float:
        """The factor on the learning rate in an epoch; the first is epoch 0, so milestone 80 is met by the 81st."""
        return float(10.0 ** -sum(epoch >= milestone for milestone in self.milestones))


# Xie et al., arXiv 2006.15815, Appendix D.1, with 200 epochs. For ImageNet the paper prints the batch, 256, and no
# milestones.
PAPER_SCHEDULES = {
    "cifar10": Schedule(epochs=200, batch=128, milestones=(80, 160)),
    "cifar100": Schedule(epochs=200, batch=128, milestones=(100, 150)),
}
