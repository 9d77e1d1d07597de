"""Finds the compiled kernel (kernel.c) and the threads on which it runs."""

import ctypes
import functools
import logging
import os
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

VARIANTS = ("plain", "avx2", "avx512")
VERSION = 4
"""The version of the structs and functions of kernel.c that are declared here."""

_BUILD = "to build it, install a C compiler, such as gcc, and run pip install . in adai's source folder again"
# Builds of earlier versions may have left the second and later ones in a source folder.
_SUFFIXES = (".so", *EXTENSION_SUFFIXES)


class Crew(ctypes.Structure):
    """struct crew: the threads that carry out a pass, and their instruction set."""

    _fields_ = (("run", ctypes.c_void_p), ("threads", ctypes.c_uint), ("variant", ctypes.c_int))


_COLUMNS = (
    *("type", "wide_step", "narrow", "size", "first_place", "run", "pitch", "stream"),
    *("p", "g", "m", "v", "c", "step", "t", "bias_correction2", "least", "warmed"),
)


class Tensors(ctypes.Structure):
    """struct tensors: addresses of arrays with one entry for each tensor."""

    _fields_ = (
        ("count", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in _COLUMNS),
    )


class Options(ctypes.Structure):
    """struct options: the numbers of a group."""

    _fields_ = tuple(
        (name, ctypes.c_double)
        for name in ("a", "lambda_", "decay", "step", "beta0", "one_minus_beta2", "eps", "min_inertia", "dampening")
    )


def load() -> ctypes.CDLL | None:
    """The compiled kernel; None if there is none that can be loaded."""
    found = look()
    return None if isinstance(found, str) else found


def missing() -> str | None:
    """Why there is no kernel that can be loaded, and what to do; None if there is one."""
    found = look()
    return found if isinstance(found, str) else None


@functools.cache
def look() -> ctypes.CDLL | str:
    """The compiled kernel; or why there is none, and what to do, which is logged once."""
    paths = (Path(__file__).with_name(f"_kernel{suffix}") for suffix in _SUFFIXES)
    path = next((path for path in paths if path.exists()), None)
    try:
        if path is not None:
            library = ctypes.CDLL(str(path))
            _check(library, path.name)
            return _declare(library)
        reason = _why_there_is_none()
    except OSError as error:
        reason = f"adai's CPU kernel cannot be loaded ({error}); {_BUILD}"
    logger.warning("%s; the foreach engine is used on CPUs", reason)
    return reason


def _why_there_is_none() -> str:
    root = Path(__file__).parents[4]  # of the package
    if os.name == "nt":
        return "adai has no CPU kernel for Windows"
    if (root / "pyproject.toml").is_file():
        return (
            f"adai is imported from {root}, where its CPU kernel is not built; run pip install -e . there (with a C "
            "compiler), or run elsewhere"
        )
    return f"adai was installed without its CPU kernel, because there was no C compiler; {_BUILD}"


def _check(library: ctypes.CDLL, name: str) -> None:
    """Raise if the library was built from sources of another version, because it could then corrupt memory."""
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
    """The fastest variant that this CPU can run."""
    library = load()
    return VARIANTS[library.adai_best_variant() if library else 0]


@functools.cache
def _team() -> int | None:
    """The address of GOMP_parallel in the OpenMP library that torch uses; None if torch uses none.

    It is looked up through torch's own library, so it is found whatever name the wheel gives its copy: libgomp.so.1,
    libgomp-a34b3233.so.1, or Intel's libiomp5, which has the same function. A second copy would be a second pool of
    threads.
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
    """torch's number of threads, and the given variant or the fastest one."""
    return Crew(_team(), torch.get_num_threads(), VARIANTS.index(variant or best_variant()))
