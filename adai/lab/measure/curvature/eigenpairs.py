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
    """A symmetric matrix that computes products, such as the Hessian of an `adai.lab.measure.objective.Objective`."""

    theta: Tensor
    """A vector of the dtype and on the device of the products."""

    @property
    def size(self) -> int:
        """The number of rows."""
        ...

    def hvp(self, vectors: Tensor) -> Tensor:
        """The product with a vector (size,), or with each row of (k, size)."""
        ...


class Eigenpairs(NamedTuple):
    """Eigenvalues with eigenvectors. A symmetric matrix has an eigenvalue within ‖H u − λ u‖ of each λ.

    Attributes:
        values: eigenvalues λ, largest first, (k,).
        vectors: unit eigenvectors u in the columns, (size, k).
        residuals: ‖H u − λ u‖ of each, (k,).
        products: the number of products H v that were computed.
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
    """The k outermost eigenpairs of H by implicitly restarted Lanczos (ARPACK), which needs only products H v.

    Do not use it for eigenvalues in the bulk: these are many and close together, and do not converge; see `density`.

    Args:
        objective: the loss, or another matrix.
        k: the number of eigenpairs; at least 1 and below the number of parameters.
        which: largest (``LA``), smallest (``SA``), or largest in magnitude (``LM``).
        tol: relative accuracy of the eigenvalues.
        seed: of the random start.
        progress: called with the number of products just computed; see `expected_products`.

    Raises:
        ValueError: k is out of range.
        UserError: Lanczos does not converge, or numbers are not finite.

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
    # ARPACK treats eigenvalues below an absolute threshold as converged. H of a fitted net is below it, so scale H up.
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
        # H is 0, for example because all units of the net have died: any directions are eigenvectors.
        values, vectors = np.zeros(k), np.linalg.qr(np.random.default_rng(seed).standard_normal((objective.size, k)))[0]
    values = scale * np.asarray(values, dtype=np.float64)
    order = np.argsort(values)[::-1]
    U = torch.from_numpy(np.ascontiguousarray(vectors[:, order])).to(objective.theta)
    found = torch.from_numpy(values[order]).to(U)
    progress(k)
    residuals = (objective.hvp(U.T.contiguous()).T - U * found).double().norm(dim=0).cpu().numpy()
    return Eigenpairs(values[order], U, residuals, products + k)


def expected_products(k: int) -> int:
    """An estimate of the number of products for k eigenpairs, for a progress bar."""
    return 3 * _basis(k)


def _basis(k: int) -> int:
    """The number of vectors that ARPACK keeps. Its default is at least 20; the outliers of a net need half of that."""
    return max(2 * k + 1, 10)
