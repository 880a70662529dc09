"""Runs the notebooks, and keeps what they show in them.

    python docs/notebooks/execute.py             # all of them, and writes them back
    python docs/notebooks/execute.py --check own_log

They are kept with what they show, so that they read as pages where they are looked at; a test runs them anew. Each runs in
an empty folder, in a kernel as Jupyter starts one.
"""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
MOST_S = 120  # of a cell: ten times what one takes on an idle machine


def executed(file: Path) -> nbformat.NotebookNode:
    """The notebook with what its cells show now. Raises CellExecutionError where one fails, CellTimeoutError where it takes
    too long."""
    notebook = nbformat.read(file, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=MOST_S, kernel_name="python3", resources=resources).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if not is_progress(one)]
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def is_progress(output: nbformat.NotebookNode) -> bool:
    """A bar that has gone, of which nothing but an empty line is left."""
    text = output.get("data", {}).get("text/html", output.get("text", "x"))
    return output.output_type in ("display_data", "stream") and not text.strip()


def main() -> None:
    check, names = "--check" in sys.argv, [word for word in sys.argv[1:] if not word.startswith("--")]
    for file in sorted(FOLDER.glob("*.ipynb")):
        if not names or file.stem in names:
            notebook = executed(file)
            if not check:
                nbformat.write(notebook, file)


if __name__ == "__main__":
    main()
