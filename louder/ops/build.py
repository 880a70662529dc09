"""Compile the C++ kernels, once per machine, when one of them is first used."""

import fcntl
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

HEADERS = Path(__file__).parent  # simd.h
# not -ffast-math: it hides NaN, and the loader of such a library turns denormals off for the whole process
FLAGS = ["-std=c++20", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC", "-shared"]
# tuned for AMD's Zen, GCC rounds twice where a loop has one running sum and once where it has more: then a row's bits
# would depend on how many rows are computed beside it
FLAGS += ["--param=avoid-fma-max-bits=0"]


@functools.cache
def load(name: str, source: Path) -> bool:
    """Make the ops of a .cpp file available as torch.ops.louder_cpu.*; False, with a warning, where that fails.

    The first call on a machine compiles all of Louder's kernels, as many at a time as there are cores, for about thirty
    seconds on two; later ones take the library from the cache folder (~/.cache/louder, or what LOUDER_CACHE says). The compiler is run directly: torch.utils.cpp_extension would need
    ninja on the PATH and setuptools, and its lock file outlives a process that is killed.
    """
    try:
        if not library_of(name, source).exists():
            build_with_others(name, source)
        torch.ops.load_library(str(library_of(name, source)))
    except (OSError, subprocess.SubprocessError) as error:
        warn_once(str(error))
        return False
    return True


def load_all() -> bool:
    """Make all of Louder's kernels ready, as an image does when it is built."""
    return all([load(path.parent.name, path) for path in sorted(HEADERS.glob("*/cpu.cpp"))])


def kernel_for(name: str, *tensors: Tensor | None, dtypes: tuple[torch.dtype, ...] = (torch.float32,)) -> bool:
    """Whether louder/ops/NAME/cpu.cpp can work on these tensors: all on a CPU, of its dtypes, and a compiler was found."""
    given = [x for x in tensors if x is not None]
    if any(x.dtype not in dtypes or not x.is_cpu for x in given):
        return False
    return load(name, source_of(name))


@functools.cache
def source_of(name: str) -> Path:
    """Kept, since an op asks each time it is called, and to put a path together takes longer than some ops do."""
    return HEADERS / name / "cpu.cpp"


def build_with_others(name: str, source: Path) -> None:
    """Build one kernel and, beside it, the others of this package: who needs one needs the next one soon."""
    sources = {name: source}
    if source.is_relative_to(HEADERS):
        sources |= {path.parent.name: path for path in HEADERS.glob("*/cpu.cpp")}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        builds = {name: pool.submit(build, name, path, library_of(name, path)) for name, path in sources.items()}
    builds[name].result()  # raises if it failed; the others say so when they are needed


@functools.cache
def warn_once(reason: str) -> None:
    warnings.warn(
        f"Louder's C++ kernels are not used on this machine: {reason}. PyTorch does the same work, more slowly.",
        stacklevel=2,
    )


def cache_folder() -> Path:
    return Path(os.environ.get("LOUDER_CACHE") or Path.home() / ".cache" / "louder")


def library_of(name: str, source: Path) -> Path:
    return cache_folder() / fingerprint(source) / f"{name}.so"


def fingerprint(source: Path) -> str:
    """Differs between any two situations that need two libraries."""
    texts = [path.read_text() for path in (source, *sorted(HEADERS.glob("*.h")))]
    return hashlib.sha256("\0".join([*texts, *FLAGS, torch.__version__, cpu()]).encode()).hexdigest()[:16]


def cpu() -> str:
    """What -march=native looks at: a home folder can be shared by machines with different processors."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.platform() + platform.processor()
    return "\n".join(line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part")))


def compiler() -> str:
    for name in (os.environ.get("CXX"), "g++", "clang++"):
        if name and (path := shutil.which(name)):
            return path
    raise OSError("no C++ compiler (g++ or clang++) was found")


def build(name: str, source: Path, library: Path) -> None:
    command = compiler()
    library.parent.mkdir(parents=True, exist_ok=True)
    with open(library.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go of by the system, even if this process is killed
        if library.exists():  # another process built it while this one waited
            return
        print(f"louder: compiling {name} for this machine, once (about 15 s)", file=sys.stderr, flush=True)
        torch_folder, unfinished = Path(torch.__file__).parent, library.with_suffix(".tmp")
        includes = [f"-I{HEADERS}", f"-isystem{torch_folder}/include"]
        libraries = [f"-L{torch_folder}/lib", "-ltorch_cpu", "-lc10"]
        abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
        done = subprocess.run(
            [command, *FLAGS, abi, *includes, str(source), "-o", str(unfinished), *libraries],
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            errors = [line for line in done.stderr.splitlines() if "error" in line] or ["it gave no reason"]
            raise OSError(f"{command} could not compile {name}: {errors[0]}")
        unfinished.rename(library)
