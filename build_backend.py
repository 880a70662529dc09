"""Setuptools, which is given torch to build a wheel with: its headers are needed to compile the kernels.

An editable install needs none of it: it compiles them on first use.
"""

import os
import shutil
import sys
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403

ConfigSettings = dict[str, str | list[str] | None] | None


def get_requires_for_build_wheel(config_settings: ConfigSettings = None) -> list[str]:
    needed = build_meta.get_requires_for_build_wheel(config_settings)
    return [*needed, torch_pin()] if compiles() else needed


def compiles() -> bool:
    """Whether the kernels can be compiled here into a wheel for others."""
    return sys.platform == "linux" and any(
        shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++") if name
    )


def torch_pin() -> str:
    lines = Path(__file__).with_name("constraints.txt").read_text().splitlines()
    return next(line for line in lines if line.startswith("torch=="))
