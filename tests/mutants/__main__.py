"""Does a test notice? Each mutant is one small mistake; the tests named beside it should fail with it.

    python -m tests.mutants                 all of them, two at a time
    python -m tests.mutants etl ops -j 1    those of two areas
    python -m tests.mutants --match k-core  those whose file, text or reason holds a word
    python -m tests.mutants --row FILE      also add what was found as one row to a JSON-lines file

A mutant is made in a copy of the tree, never in the tree itself.
"""

import argparse
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from louder.results import append_row, provenance
from tests.mutants import Mutant

ROOT = Path(__file__).parents[2]
AREAS = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))
TIMEOUT_S = 600  # a mutant may loop for ever; that is noticed, too


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("areas", nargs="*", metavar="AREA", help=f"some of {', '.join(AREAS)}; all by default")
    parser.add_argument("-j", type=int, default=2, help="how many at a time")
    parser.add_argument("--match", default="", help="only those that hold this word")
    parser.add_argument("--row", type=Path, help="a JSON-lines file to add the result to")
    given = parser.parse_args()
    if unknown := set(given.areas) - set(AREAS):
        parser.error(f"there is no area {unknown.pop()!r}; there are {', '.join(AREAS)}")
    chosen = [m for area in given.areas or AREAS for m in mutants_of(area) if given.match in "\n".join(map(str, m))]
    for mutant in chosen:
        require_once(mutant)
    trees: SimpleQueue[Path] = SimpleQueue()
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(given.j):
            trees.put(copy_tree(Path(temporary) / str(number)))

        def noticed_in_a_tree(mutant: Mutant) -> bool:
            tree = trees.get()
            try:
                return noticed(mutant, tree)
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(given.j) as pool:
            lived = list(report(chosen, pool.map(noticed_in_a_tree, chosen)))
    killed = len(chosen) - len(lived)
    print(f"{killed} of {len(chosen)} noticed ({killed / max(1, len(chosen)):.1%})")
    if given.row:
        found = {"experiment": "mutants", "mutants": len(chosen), "noticed": killed}
        append_row(given.row, found | {"lived": [f"{m.file}: {m.new}" for m in lived]} | provenance())
    return bool(lived)


def mutants_of(area: str) -> list[Mutant]:
    found: list[Mutant] = importlib.import_module(f"tests.mutants.{area}").MUTANTS
    return found


def require_once(mutant: Mutant) -> None:
    count = (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old)
    if count != 1:
        raise SystemExit(f"{mutant.file} holds {mutant.old!r} {count} times, but a mutant needs it once.")


def copy_tree(to: Path) -> Path:
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, to / name)
    if (ROOT.parent / "shared").is_dir():  # golden numbers
        (to.parent / "shared").unlink(missing_ok=True)
        (to.parent / "shared").symlink_to(ROOT.parent / "shared")
    return to


def noticed(mutant: Mutant, tree: Path) -> bool:
    file = tree / mutant.file
    right = file.read_text(encoding="utf-8")
    file.write_text(right.replace(mutant.old, mutant.new), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutant.tests.split()]
    try:
        run = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
        if run.returncode not in (0, 1, 2):  # 2: a test module could not even be imported
            raise SystemExit(f"{' '.join(command)} could not run:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
        return run.returncode != 0
    except subprocess.TimeoutExpired:
        return True
    finally:
        file.write_text(right, encoding="utf-8")


def report(mutants: list[Mutant], results: Iterator[bool]) -> Iterator[Mutant]:
    """Prints each as it is known; gives those that lived."""
    for mutant, was_noticed in zip(mutants, results):
        print(f"{'noticed' if was_noticed else 'LIVED  '}  {mutant.file}: {mutant.old!r} -> {mutant.new!r}", flush=True)
        if not was_noticed:
            yield mutant


if __name__ == "__main__":
    sys.exit(main())
