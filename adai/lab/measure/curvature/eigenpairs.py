"""The largest eigenvalues of the Hessian, with eigenvectors."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from adai.errors import UserError

Which = Literal["LA", "SA", "LM"]


class Symmetric(Protocol):
    """A symmetric matrix that gives products: the Hessian of an `adai.lab.measure.objective.Objective`, or one like
    it."""

    theta: Tensor
    """A vector of the dtype and on the device of the products."""

    @property
    def size(self) -> int:
        """How many rows."""
        ...

    def hvp(self, vectors: Tensor) -> Tensor:
        """The product with a vector (size,), or with each row of (k, size)."""
        ...


class Eigenpairs(NamedTuple):
    """Eigenvalues, largest first, (k,); unit eigenvectors in the columns, (size, k); ‖H u − λ u‖ each; products taken.

    A symmetric matrix has an eigenvalue within ‖H u − λ u‖ of each λ.
    """

    values: NDArray[np.float64]
    vectors: Tensor
    residuals: NDArray[np.float64]
    products: int


def top_eigenpairs(
    objective: Symmetric,
    k: int = 5,
    *,
    which: Which = "LA",
    tol: float = 1e-3,
    seed: int = 0,
    progress: Callable[[int], None] = lambda products: None,
) -> Eigenpairs:
    """The k outermost eigenpairs of H by implicitly restarted Lanczos (ARPACK), from products H v alone.

    Do not use it for eigenvalues in the bulk: they are many, close together, and do not converge; see `density`.

    Args:
        objective: the loss, or another matrix.
        k: how many; at least 1 and fewer than there are parameters.
        which: largest (``LA``), smallest (``SA``), or largest in magnitude (``LM``).
        tol: relative accuracy of the eigenvalues.
        seed: of the random start.
        progress: told how many more products were taken; see `expected_products`.

    Raises:
        ValueError: such a k.
        UserError: no convergence, or numbers that are not finite.

    Source: R. Lehoucq, D. Sorensen, C. Yang, ARPACK Users' Guide, SIAM 1998.
    """
    if not 1 <= k < objective.size:
        raise ValueError(f"k = {k}, but has to be at least 1 and below the number of parameters, {objective.size}")
    products = 0

    dtype = np.float64 if objective.theta.dtype == torch.float64 else np.float32

    def product(v: NDArray[Any]) -> NDArray[Any]:
        nonlocal products
        products += 1
        progress(1)
        Hv = objective.hvp(torch.from_numpy(np.ascontiguousarray(v.reshape(-1))))
        result: NDArray[Any] = Hv.double().cpu().numpy()
        return result

    start: Any = np.random.default_rng(seed).standard_normal(objective.size).astype(dtype)
    # ARPACK takes an eigenvalue for converged below an absolute floor, which H of a fitted net lies under: scale H up.
    scale = float(np.linalg.norm(product(start)) / np.linalg.norm(start.astype(np.float64))) or 1.0
    operator: Any = LinearOperator(
        (objective.size, objective.size), matvec=lambda v: (product(v) / scale).astype(dtype), dtype=dtype
    )
    try:
        values, vectors = eigsh(operator, k=k, which=which, tol=tol, v0=start, ncv=min(_basis(k), objective.size))
    except ArpackNoConvergence as error:
        raise UserError(
            f"{len(error.eigenvalues)} of {k} eigenvalues had converged after {products} products; ask for fewer, "
            "or for less accuracy"
        ) from error
    except ArpackError as error:
        if product(start).any():
            raise UserError(f"no eigenvalues found: {error}") from error
        # H is 0, as of a net whose units have all died: any directions will do.
        values, vectors = np.zeros(k), np.linalg.qr(np.random.default_rng(seed).standard_normal((objective.size, k)))[0]
    values = scale * np.asarray(values, dtype=np.float64)
    order = np.argsort(values)[::-1]
    U = torch.from_numpy(np.ascontiguousarray(vectors[:, order])).to(objective.theta)
    found = torch.from_numpy(values[order]).to(U)
    progress(k)
    residuals = (objective.hvp(U.T.contiguous()).T - U * found).double().norm(dim=0).cpu().numpy()
    return Eigenpairs(values[order], U, residuals, products + k)


def expected_products(k: int) -> int:
    """About so many products k eigenpairs take, for a progress bar: it is not known before."""
    return 3 * _basis(k)


def _basis(k: int) -> int:
    """How many vectors ARPACK keeps. Its own choice is 20 at least; the outliers of a net need half of them."""
    return max(2 * k + 1, 10)
