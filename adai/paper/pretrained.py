"""A net trained quickly, to look at."""

import torch

from adai.lab.objective import Progress, silent
from adai.lab.subject import Subject


def pretrain(
    subject: Subject, *, epochs: int, lr: float = 0.1, batch: int = 128, seed: int = 0, progress: Progress = silent
) -> None:
    """Train the subject's model in place on its data: SGD with momentum 0.9, learning rate to 0 along a cosine."""
    model, data = subject.model.train(), subject.data
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    order = torch.Generator().manual_seed(seed)
    steps = epochs * -(-len(data) // batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        for inputs, targets in data.batches(torch.randperm(len(data), generator=order).split(batch), order):
            optimizer.zero_grad()
            subject.loss(model(inputs), targets).backward()
            optimizer.step()
            schedule.step()
            progress("training", 1, steps)
    optimizer.zero_grad()
