"""The link by which the browser saves a file of the service, streamed, under the file's own name."""

from __future__ import annotations

from nicegui import ui

from tailorbird.studio.pages.file_rows import File, download_path
from tailorbird.studio.visit import Visit


def download_link(visit: Visit, file: File) -> ui.link:
    """Empty; `with download_link(...)` fills it."""
    account = visit.account.id if visit.account else ""
    # With `download` the browser takes the address itself, instead of the Studio's own navigation.
    return ui.link(target=download_path(file, account)).props("download")
