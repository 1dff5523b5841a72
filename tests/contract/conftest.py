"""Prints, at the end of a test run, what the contract found."""

import pytest
from rich.console import Console
from rich.table import Table

from benchmark.contract import FAMILIES, Verdict

_TABLE: dict[tuple[str, str], Verdict] = {}


@pytest.fixture(scope="session")
def contract_table() -> dict[tuple[str, str], Verdict]:
    """(method, family) -> verdict, filled by the tests."""
    return _TABLE


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _TABLE:
        return
    families = [f for f in FAMILIES if any(family == f for _, family in _TABLE)]
    table = Table("method", *families, box=None)
    refusals: dict[str, list[str]] = {}
    for method in dict.fromkeys(method for method, _ in _TABLE):
        cells = []
        for family in families:
            verdict = _TABLE.get((method, family))
            if verdict is None:
                cells.append("")
            elif verdict.refusal:
                cells.append("-")
                refusals.setdefault(verdict.refusal, []).append(family)
            else:
                cells.append("FAIL" if verdict.broken else "ok")
        table.add_row(method.replace("[", r"\["), *cells)
    console = Console(width=160, no_color=True)
    with console.capture() as capture:
        console.print(table)
        console.print("-: refused, with the reason")
        for reason, found in refusals.items():
            console.print(f"  {', '.join(found)}: {reason}", markup=False, highlight=False)
    terminalreporter.section("method contract")
    terminalreporter.write_line(capture.get())
