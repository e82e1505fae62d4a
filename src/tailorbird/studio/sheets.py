"""Tables as tables: a caption for those who listen, headings that sort, and rows that become cards on a phone."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from nicegui import ui

from tailorbird.studio.visit import Visit


@dataclass(frozen=True, slots=True)
class Column:
    """`key` names the order a click on the heading asks for; empty: it cannot be sorted by."""

    label: str
    key: str = ""
    number: bool = False


class Sheet:
    """`with sheet.row() as row:` and `with sheet.cell(n):` fill it. `on_sort(key)` is called for a heading."""

    def __init__(
        self, caption: str, columns: Sequence[Column], on_sort: Callable[[str], None] | None = None, classes: str = ""
    ) -> None:
        self._columns = columns
        self._headings: dict[str, ui.element] = {}
        # What scrolls must be reachable by keyboard.
        with ui.element("div").classes("sheet").props('role=region tabindex="0"') as self.element:
            self.element.props["aria-label"] = caption
            with ui.element("table").classes(f"cards {classes}"):
                with ui.element("thead"), ui.element("tr"):
                    for column in columns:
                        self._heading(column, on_sort)
                self.body = ui.element("tbody")

    def _heading(self, column: Column, on_sort: Callable[[str], None] | None) -> None:
        with ui.element("th").props("scope=col").classes("number" if column.number else "") as heading:
            if column.key and on_sort is not None:
                self._headings[column.key] = heading
                with ui.element("button").props("type=button").classes("sort") as button:
                    ui.label(column.label).classes("inline")
                button.on("click", lambda: on_sort(column.key))
            else:
                ui.label(column.label).classes("inline")

    def sorted_by(self, key: str, *, descending: bool) -> None:
        for name, heading in self._headings.items():
            wanted = ("descending" if descending else "ascending") if name == key else "none"
            heading.props(f"aria-sort={wanted}")

    @contextmanager
    def row(self) -> Generator[ui.element]:
        with self.body, ui.element("tr") as row:
            yield row

    def texts(self, *texts: str) -> None:
        """A row of nothing but words; the first heads it."""
        with self.row():
            for place, text in enumerate(texts):
                with self.cell(place, heading=place == 0):
                    ui.label(text)

    @contextmanager
    def cell(self, place: int, *, heading: bool = False) -> Generator[ui.element]:
        """The column's name goes along, for the phone, where there is no line of headings."""
        column = self._columns[place]
        with ui.element("th" if heading else "td").props("scope=row" if heading else None) as cell:
            cell.props["data-label"] = column.label
            cell.classes("number" if column.number else "")
            yield cell


def reasons(visit: Visit, *actions: str) -> None:
    """Why buttons in the rows above are greyed, once for all of them."""
    for reason in dict.fromkeys(visit.refusal(action) for action in actions):
        if reason is not None:
            ui.label(reason).classes("reason")
