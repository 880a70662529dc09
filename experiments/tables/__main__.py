"""Write the tables of README.md and docs/ from the rows.

python -m experiments.tables          # rewrite what stands between <!-- rows: NAME --> and <!-- end -->
python -m experiments.tables --check  # exit with 1 if a page differs from the rows
"""

import re
import sys
from pathlib import Path

from experiments.tables import answers, first_screen, ranking, results, scaling, serving, speed

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))
TABLES = (
    results.TABLES
    | ranking.TABLES
    | speed.TABLES
    | scaling.TABLES
    | serving.TABLES
    | answers.TABLES
    | first_screen.TABLES
)


def rewritten(text: str) -> str:
    def table(match: re.Match[str]) -> str:
        return f"<!-- rows: {match[1]} -->\n" + "\n".join(TABLES[match[1]]()) + "\n<!-- end -->"

    return re.sub(r"<!-- rows: ([^>]+?) -->\n.*?<!-- end -->", table, text, flags=re.DOTALL)


def main() -> int:
    check, stale = "--check" in sys.argv, []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if (new := rewritten(text)) != text:
            stale.append(page)
            if not check:
                page.write_text(new, encoding="utf-8")
    for page in stale:
        print(f"{page.relative_to(ROOT)}: {'differs from the rows' if check else 'rewritten'}")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
