"""Names the functions that no test enters.

`python -m pytest --cov --cov-report=json` writes coverage.json; `python -m tests.helpers.unentered`
reads it and prints a line for each function whose body never ran.
"""

import json
from pathlib import Path


def unentered(report):
    """`path:line name` of the functions whose body never ran, from coverage's JSON."""
    return [
        f"{path}:{function['start_line']} {name}"
        for path, file in sorted(report["files"].items())
        for name, function in file["functions"].items()
        # "" is what lies outside of all functions.
        if name and function["summary"]["num_statements"] and not function["executed_lines"]
    ]


if __name__ == "__main__":
    print("\n".join(unentered(json.loads(Path("coverage.json").read_text("utf-8")))))
