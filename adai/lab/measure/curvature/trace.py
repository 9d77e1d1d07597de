"""The trace of the Hessian, with its standard error."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from adai.lab.measure.objective import Objective


class Trace(NamedTuple):
    """An estimate of tr H, its standard error, and the number of products H v that it took."""

    value: float
    se: float
    products: int


def trace(
    objective: Objective, products: int = 60, *, seed: int = 0, progress: Callable[[int], None] = lambda products: None
) -> Trace:
    """Hutch++: tr H = tr QᵀHQ + mean over signs g of gᵀ(I − QQᵀ) H (I − QQᵀ)g, unbiased.

    A third of the products is H times random signs. Q spans these products, so it contains the outermost eigenvectors
    approximately. The trace of the rest is estimated with random signs. The result is exact if Q reaches the rank of H.
    The standard error is that of the second term given Q, which is the only random part then. With few products the
    error itself is uncertain, by about one part in √(2/3 · products).

    Args:
        objective: the loss.
        products: the number of products H v; at least 6, a third for each part.
        seed: of the signs.
        progress: called with the number of products just computed.

    Raises:
        ValueError: fewer than 6 products.

    Source: R. Meyer, C. Musco, C. Musco, D. Woodruff, Hutch++, SOSA 2021, arXiv 2010.09649, Algorithm 1.
    """
    if products < 6:
        raise ValueError(f"products = {products}, but Hutch++ needs at least 6")
    each = min(products // 3, objective.size)
    generator = torch.Generator().manual_seed(seed)

    def times(V: Tensor) -> Tensor:
        """H V."""
        product = objective.hvp(V.T.contiguous()).T
        progress(V.shape[1])
        return product

    def signs(count: int) -> Tensor:
        return (2 * torch.randint(2, (objective.size, count), generator=generator) - 1).to(objective.theta)

    Q = torch.linalg.qr(times(signs(each))).Q
    known = (Q * times(Q)).sum().item()
    count = products - 2 * each
    G = signs(count)
    G -= Q @ (Q.T @ G)
    rest = (G * times(G)).sum(dim=0).double()
    return Trace(known + rest.mean().item(), (rest.var() / count).sqrt().item(), 2 * each + count)
