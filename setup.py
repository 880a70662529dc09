"""Compiles the kernels into the wheel, where there are torch and a compiler; everything else is in pyproject.toml.

Without one of the two the wheel has their sources only, and they are compiled when they are first used.
"""

import importlib.util
import os
import sys
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).parent))
import build_backend

COMPILED = build_backend.compiles() and importlib.util.find_spec("torch") is not None


class Compiled(Distribution):
    def has_ext_modules(self) -> bool:
        return COMPILED


class WithKernels(build_py):
    def run(self) -> None:
        super().run()
        if COMPILED and not self.editable_mode:
            from louder.ops.build import ship

            ship(Path(self.build_lib, "louder", "ops"))


class AnyPython(bdist_wheel):
    """The kernels know torch's stable ABI and nothing of Python's: one wheel serves every version of both."""

    def get_tag(self) -> tuple[str, str, str]:
        return ("py3", "none", platform_tag(super().get_tag()[2])) if COMPILED else super().get_tag()


def platform_tag(default: str) -> str:
    """As old as the C library that the kernels were linked with: manylinux_2_36_x86_64."""
    library, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    if library != "glibc":
        return default
    return default.replace("linux", "manylinux_" + "_".join(version.split(".")[:2]), 1)


setup(distclass=Compiled, cmdclass={"build_py": WithKernels, "bdist_wheel": AnyPython})
