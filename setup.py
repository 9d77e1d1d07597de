"""Builds the CPU kernel. Everything else about the package stands in pyproject.toml."""

import os
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

FOLDER = Path("adai", "optim", "engines", "cpu")


class BuildKernel(build_ext):
    """The kernel is called through ctypes: its file name has no Python version in it."""

    def get_ext_filename(self, fullname: str) -> str:
        """``_kernel.so``."""
        return f"{Path(*fullname.split('.'))}.so"


class BuildWheel(bdist_wheel):
    """One wheel serves every Python on a platform, and every platform where there was no C compiler."""

    def get_tag(self) -> tuple[str, str, str]:
        """``py3-none-<platform>``, or ``py3-none-any`` without the kernel."""
        _, _, platform = super().get_tag()
        self.root_is_pure = not Path(self.bdist_dir, FOLDER, "_kernel.so").exists()
        return "py3", "none", "any" if self.root_is_pure else platform


KERNEL = Extension(
    "adai.optim.engines.cpu._kernel",
    [str(FOLDER / "kernel.c")],
    depends=[str(FOLDER / name) for name in ("half.h", "rounding.h", "states.h", "tensor.h", "variant.h")],
    # No contraction: if one CPU had a fused multiply-add and another did not, results would depend on the CPU.
    extra_compile_args=["-O3", "-g0", "-std=gnu11", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"],
    libraries=["m"],
    optional=True,  # without a C compiler the package is installed without the kernel
)

setup(
    ext_modules=[] if os.name == "nt" else [KERNEL],  # it uses GCC's attributes, which MSVC does not have
    cmdclass={"build_ext": BuildKernel, "bdist_wheel": BuildWheel},
)
