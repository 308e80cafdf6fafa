"""What a scenario hands back: rows of one table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

HEADINGS = ("scenario", "demanded", "measured", "ok")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: what was demanded, what was measured, and whether that will do."""

    scenario: str
    demanded: str
    measured: str
    is_ok: bool

    def cells(self) -> tuple[str, ...]:
        return (self.scenario, self.demanded, self.measured, "yes" if self.is_ok else "NO")


def table(rows: Iterable[Row]) -> str:
    """The rows as one Markdown table."""
    lines: list[tuple[str, ...]] = [HEADINGS, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
