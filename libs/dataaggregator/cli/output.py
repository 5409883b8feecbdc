"""What commands print: a table for people, JSON for programs."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

Json = dict[str, Any]


WIDTH_WITHOUT_TERMINAL = 200


def console() -> Console:
    """Standard output, made when asked for, so that a redirected stream is honoured and not cut at 80 columns."""
    width = None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL
    return Console(file=sys.stdout, highlight=False, soft_wrap=True, width=width)


def emit_json(value: object) -> None:
    """One JSON document, indented."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def emit_line(value: object) -> None:
    """One JSON document on one line, for streams."""
    sys.stdout.write(orjson.dumps(value).decode() + "\n")
    sys.stdout.flush()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> Table:
    """A plain table; numbers stand right."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    kept = [list(row) for row in rows]
    for place, column in enumerate(columns):
        numeric = bool(kept) and all(isinstance(row[place], int | float | None) for row in kept)
        made.add_column(column, justify="right" if numeric else "left", no_wrap=True)
    for row in kept:
        made.add_row(*(cell(value) for value in row))
    return made


def cell(value: object) -> str:
    """A value as a person reads it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, dict):
        return ", ".join(f"{name}={cell(part)}" for name, part in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(cell(part) for part in value) or "-"
    return str(value)


def apart(counted: Json) -> Json:
    """What a stage counted besides rows in and out: why these differ where nothing was filtered or rejected."""
    return {name: counted[name] for name in ("duplicates", "empty", "groups", "fan_out") if counted.get(name)}


def print_ledger(ledger: Json) -> None:
    """The stages of a run, what its destinations answered, and whether it all adds up."""
    out = console()
    columns = ("stage", "kind", "read", "written", "filtered", "rejected", "accounting")
    stages = ([*(stage[name] for name in columns), apart(stage)] for stage in ledger["stages"])
    out.print(table((*columns, "apart"), stages, "Ledger"))
    answers = ("destination", "committed", "inserted", "updated", "unchanged", "verified")
    receipts = ([receipt[name] for name in answers] for receipt in ledger["receipts"])
    out.print()
    out.print(table(answers, receipts, "Receipts, read back from the destinations"))
    out.print()
    out.print("Balanced: every row is accounted for." if ledger["balanced"] else "[bold red]Not balanced.[/]")
