"""Finds the compiled kernel (kernel.c) and the threads that it runs on."""

import ctypes
import functools
import logging
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

VARIANTS = ("plain", "avx2", "avx512")
VERSION = 3
"""Of what is mirrored here from kernel.c."""

# The second and later ones are what builds of earlier versions left in a source folder.
_SUFFIXES = (".so", *EXTENSION_SUFFIXES)


class Crew(ctypes.Structure):
    """struct crew: who carries out a pass, and with which instructions."""

    _fields_ = (("run", ctypes.c_void_p), ("threads", ctypes.c_uint), ("variant", ctypes.c_int))


_COLUMNS = (
    *("type", "wide_step", "narrow", "size", "first_place", "run", "pitch", "stream"),
    *("p", "g", "m", "v", "c", "step", "t", "bias_correction2", "least", "warmed"),
)


class Tensors(ctypes.Structure):
    """struct tensors: addresses of arrays with one entry per tensor."""

    _fields_ = (
        ("count", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in _COLUMNS),
    )


class Options(ctypes.Structure):
    """struct options: the numbers that a whole group shares."""

    _fields_ = tuple(
        (name, ctypes.c_double)
        for name in ("a", "lambda_", "decay", "step", "beta0", "one_minus_beta2", "eps", "min_inertia", "dampening")
    )


@functools.cache
def load() -> ctypes.CDLL | None:
    """The compiled kernel, or None if the package was installed without a C compiler (the log says so once)."""
    for suffix in _SUFFIXES:
        path = Path(__file__).with_name(f"_kernel{suffix}")
        if path.exists():
            try:
                library = ctypes.CDLL(str(path))
                _check(library, path.name)
                return _declare(library)
            except OSError as error:
                logger.warning("adai: cannot load %s (%s); the foreach engine is used on CPUs", path.name, error)
                return None
    logger.warning("adai was installed without its compiled CPU kernel (no C compiler); the foreach engine is used")
    return None


def _check(library: ctypes.CDLL, name: str) -> None:
    """Raise where the library was built from other sources than this package's: it would write past the tables."""
    layout = (VERSION, *map(ctypes.sizeof, (Crew, Tensors, Options)))
    try:
        built = tuple((ctypes.c_int64 * len(layout)).in_dll(library, "adai_layout"))
    except ValueError:
        built = ()
    if built != layout:
        raise RuntimeError(f"{name} was built from other sources than this version of adai; install adai again")


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    crew, tensors, options = ctypes.POINTER(Crew), ctypes.POINTER(Tensors), ctypes.POINTER(Options)
    array = ctypes.c_void_p
    library.adai_squares.argtypes = [crew, tensors, options, ctypes.c_int, array]
    library.adai_totals.argtypes = [crew, tensors, array]
    library.adai_accumulate.argtypes = [tensors, options, array, array]
    library.adai_accumulate.restype = ctypes.c_double
    library.adai_step.argtypes = [crew, tensors, options, ctypes.c_double, array]
    return library


@functools.cache
def best_variant() -> str:
    """The fastest variant that this CPU runs."""
    library = load()
    return VARIANTS[library.adai_best_variant() if library else 0]


@functools.cache
def _team() -> int | None:
    """Address of GOMP_parallel in the OpenMP library that torch runs on, or None where it has none.

    Looked up through torch's own library, so that it is found whatever the wheel calls its copy (libgomp.so.1,
    libgomp-a34b3233.so.1, Intel's libiomp5, which has the same entry). A second copy would be a second pool.
    """
    if not torch.backends.openmp.is_available():
        return None
    folder = Path(torch.__file__).parent / "lib"
    for path in (*folder.glob("libtorch_cpu.*"), None):
        try:
            parallel = ctypes.CDLL(None if path is None else str(path)).GOMP_parallel
        except (AttributeError, OSError, TypeError):
            continue
        return ctypes.cast(parallel, ctypes.c_void_p).value
    return None


def crew(variant: str | None = None) -> Crew:
    """As many threads as torch is set to use, and the fastest instructions unless told otherwise."""
    return Crew(_team(), torch.get_num_threads(), VARIANTS.index(variant or best_variant()))
