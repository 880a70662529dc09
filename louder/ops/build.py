"""Find the C++ kernels: compiled ones that came with the package, or else compile them, once per machine."""

import fcntl
import functools
import hashlib
import importlib
import os
import platform
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

HEADERS = Path(__file__).parent  # simd.h
# TORCH_TARGET_VERSION: of torch's stable ABI; the library then runs with this version, 2.11, and any later one
# not -ffast-math: it hides NaN, and the loader of such a library turns denormals off for the whole process
FLAGS = ["-std=c++20", "-O3", "-DTORCH_TARGET_VERSION=0x020b000000000000", "-fno-math-errno", "-fno-trapping-math"]
FLAGS += ["-fopenmp-simd", "-fPIC", "-shared"]
# tuned for AMD's Zen, GCC rounds twice where a loop has one running sum and once where it has more: then a row's bits
# would depend on how many rows are computed beside it
FLAGS += ["--param=avoid-fma-max-bits=0"]

AVX2 = ["avx2", "fma"]
AVX512 = [*AVX2, "avx512f", "avx512bw", "avx512dq", "avx512vl"]
NATIVE = ["-march=native"]
# what a wheel is compiled for, the best first: names of /proc/cpuinfo, each of which is also a flag of the compiler
LEVELS = {"avx512_bf16": [*AVX512, "avx512_bf16"], "avx512": AVX512, "avx2": AVX2, "plain": []}


@functools.cache
def load(name: str, source: Path) -> bool:
    """Make the ops of a .cpp file available as torch.ops.louder_cpu.*; False, with a warning, where that fails.

    They are in the package, if it was installed from a wheel. Else the first call on a machine compiles all of Louder's
    kernels, as many at a time as there are cores, for about a quarter of a minute on two; later ones take the library
    from the cache folder (~/.cache/louder, or what LOUDER_CACHE says). The compiler is run directly:
    torch.utils.cpp_extension would need ninja on the PATH and setuptools, and its lock file outlives a process that is
    killed.
    """
    if library := shipped(source):
        try:
            torch.ops.load_library(str(library))
            return True
        except OSError as error:
            warnings.warn(
                f"The C++ kernels that came with Louder do not run with torch {torch.__version__} on this machine: "
                f"{error}. They are compiled here instead.",
                stacklevel=2,
            )
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
    return all([load(path.parent.name, path) for path in sources()])


def sources() -> list[Path]:
    return sorted(HEADERS.glob("*/cpu.cpp"))


def kernel_for(name: str, *tensors: Tensor | None, dtypes: tuple[torch.dtype, ...] = (torch.float32,)) -> bool:
    """Whether louder/ops/NAME/cpu.cpp can work on these tensors: all on a CPU, of its dtypes, and it could be loaded."""
    given = [x for x in tensors if x is not None]
    if any(x.dtype not in dtypes or not x.is_cpu for x in given):
        return False
    return load(name, source_of(name))


@functools.cache
def triton_kernels(op: str) -> ModuleType | None:
    """louder/ops/OP/triton.py, where Triton is installed."""
    try:
        return importlib.import_module(f"louder.ops.{op}.triton")
    except ModuleNotFoundError:
        warn_once("Triton is not installed: pip install triton", kernels="GPU")
        return None


@functools.cache
def source_of(name: str) -> Path:
    """Kept, since an op asks each time it is called, and to put a path together takes longer than some ops do."""
    return HEADERS / name / "cpu.cpp"


def shipped(source: Path) -> Path | None:
    """The best library for this processor among those beside the source, where there are any."""
    return next((path for level in levels() if (path := source.with_name(f"{level}.so")).exists()), None)


def levels() -> list[str]:
    """What this processor can run of LEVELS, the best first."""
    has = set(cpu().split())
    return [level for level, needed in LEVELS.items() if has.issuperset(needed)]


def ship(folder: Path) -> None:
    """Compile the kernels into the folder of a package louder.ops, for all processors of this machine's kind."""
    levels = LEVELS if platform.machine() in ("x86_64", "AMD64") else {"plain": []}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        builds = {
            folder / source.parent.name / f"{level}.so": pool.submit(build, source.parent.name, source, machine)
            for source in sources()
            for level, names in levels.items()
            if level != "avx512_bf16" or "__AVX512BF16__" in source.read_text()  # elsewhere it would be avx512 again
            for machine in [[f"-m{name.replace('_', '')}" for name in names]]
        }
        for path, library in builds.items():
            shutil.copy(library.result(), path)


def build_with_others(name: str, source: Path) -> None:
    """Build one kernel and, beside it, the others of this package: who needs one needs the next one soon."""
    wanted = {name: source}
    if source.is_relative_to(HEADERS):
        wanted |= {path.parent.name: path for path in sources()}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        builds = {name: pool.submit(build, name, path) for name, path in wanted.items()}
    builds[name].result()  # raises if it failed; the others say so when they are needed


@functools.cache
def warn_once(reason: str, kernels: str = "C++") -> None:
    warnings.warn(
        f"Louder's {kernels} kernels are not used on this machine: {reason}. PyTorch does the same work, more slowly.",
        stacklevel=2,
    )


def cache_folder() -> Path:
    return Path(os.environ.get("LOUDER_CACHE") or Path.home() / ".cache" / "louder")


def library_of(name: str, source: Path, machine: list[str] = NATIVE) -> Path:
    return cache_folder() / fingerprint(source, machine) / f"{name}.so"


def fingerprint(source: Path, machine: list[str] = NATIVE) -> str:
    """Differs between any two situations that need two libraries."""
    texts = [path.read_text() for path in (source, *sorted(HEADERS.glob("*.h")))]
    return hashlib.sha256("\0".join([*texts, *FLAGS, *machine, torch.__version__, cpu()]).encode()).hexdigest()[:16]


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


def build(name: str, source: Path, machine: list[str] = NATIVE) -> Path:
    """The library of a source for the processors that these flags tell the compiler of; from the cache, if it is there."""
    library = library_of(name, source, machine)
    compiler()  # before a folder is made for nothing
    library.parent.mkdir(parents=True, exist_ok=True)
    with open(library.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # let go of by the system, even if this process is killed
        if library.exists():  # another process built it while this one waited
            return library
        goal = "for this machine, once (about 15 s)" if machine == NATIVE else " ".join(["for a wheel", *machine])
        print(f"louder: compiling {name} {goal}", file=sys.stderr, flush=True)
        unfinished = library.with_suffix(".tmp")
        run_compiler(source, unfinished, machine)
        unfinished.rename(library)
    return library


def run_compiler(source: Path, library: Path, machine: list[str]) -> None:
    torch_folder = Path(torch.__file__).parent
    places = [f"-I{HEADERS}", f"-isystem{torch_folder}/include", f"-L{torch_folder}/lib", "-ltorch_cpu"]
    command = [compiler(), *FLAGS, *machine, str(source), "-o", str(library), *places]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if "error" in line] or ["it gave no reason"]
        raise OSError(f"{command[0]} could not compile {source.parent.name}: {errors[0]}")
