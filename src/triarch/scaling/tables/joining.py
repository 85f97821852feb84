"""Two tables as one: rows that agree in some columns, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from triarch.errors import MOST_LISTED, UserError, nearest
from triarch.scaling.tables.table import Table, parse_number


def join(first: Table, second: Table, on: Sequence[str]) -> tuple[Table, list[str]]:
    """Returns the first table with the second's columns beside it, and warnings on rows that have no partner.

    Args:
      first: its rows come out in their order and keep their numbers.
      second: no two of its rows agree in all of `on`.
      on: columns of both, compared as text, or as numbers where both are.

    Raises:
      UserError: a column is in one table only, or in both and not in `on`; two rows of the second agree; none has a
        partner.
    """
    for table in (first, second):
        for column in on:
            if column not in table.columns:
                raise UserError(f"{table.name}: no column {column!r} to join on{nearest(column, table.columns)}")
    if twice := [name for name in second.columns if name in first.columns and name not in on]:
        shown = ", ".join(map(repr, twice[:MOST_LISTED]))
        raise UserError(f"{second.name}: {shown}: {first.name} has such columns too; join on them, or rename them")
    places: dict[tuple[object, ...], int] = {}
    for row, key in enumerate(_keys(second, on)):
        if key in places:
            same = second.rows([places[key], row])
            raise UserError(f"{second.name}, {same}: the same {', '.join(on)}; expected one row for each")
        places[key] = row
    found = [places.get(key) for key in _keys(first, on)]
    kept = [row for row, place in enumerate(found) if place is not None]
    if not kept:
        raise UserError(f"{first.name} and {second.name}: no row of one has the {', '.join(on)} of a row of the other")
    chosen = first.select(kept)
    partners = [place for place in found if place is not None]
    added = {name: [cells[row] for row in partners] for name, cells in second.columns.items() if name not in on}
    gone = [row for row in range(len(first)) if found[row] is None]
    warnings = [f"{first.rows(gone)}: left out, {second.name} has no such {', '.join(on)}"] if gone else []
    return Table(first.name, {**chosen.columns, **added}, chosen.lines, chosen.origin), warnings


def _keys(table: Table, on: Sequence[str]) -> list[tuple[object, ...]]:
    columns = [[_value(cell) for cell in table.text(name)] for name in on]
    return list(zip(*columns, strict=True))


def _value(cell: str) -> object:
    number = parse_number(cell)
    return cell if number is None or number != number else number
