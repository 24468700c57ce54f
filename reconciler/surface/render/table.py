"""A table for people: columns that keep their width, and those behind them that are folded."""

import sys
from collections.abc import Iterable, Sequence

import click

from .text import printable


def show(columns: Sequence[str], folded: Sequence[str], rows: Iterable[Sequence[str]], right: str = "") -> None:
    """Print rows under `columns` and, behind them, the `folded` ones; the column `right` is aligned to that side."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    context = click.get_current_context(silent=True)
    plainly = context is not None and context.find_root().color is False
    table = Table(box=None, pad_edge=False, header_style="none" if plainly else "bold")
    for column in columns:
        table.add_column(column, no_wrap=True, justify="right" if column == right else "left")
    for column in folded:
        table.add_column(column, overflow="fold")
    for cells in rows:
        table.add_row(*(Text(printable(cell)) for cell in cells))
    Console(soft_wrap=False, file=sys.stdout).print(table)
