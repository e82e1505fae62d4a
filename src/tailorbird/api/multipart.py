"""Reads a multipart form piece by piece: its text fields, and its file as a stream that is never held whole."""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from tailorbird.domain.errors import InvalidRequest

_MAX_FIELD_BYTES = 64 * 1024
_MAX_PARTS = 20
_CHUNK = 1 << 20


@dataclass(slots=True)
class _Part:
    name: str
    filename: str | None


@dataclass(slots=True)
class _PartEnd:
    pass


@dataclass(frozen=True, slots=True)
class FileForm:
    """A form read as far as its file. Take `chunks` to the end: fields after the file are read and checked then."""

    filename: str
    fields: dict[str, str]
    chunks: Iterator[bytes]


@contextmanager
def open_form(
    content_type: str,
    body: Iterable[bytes],
    known: Callable[[str], None],
    too_large: Callable[[int], None],
    *,
    file: str = "file",
    needed: str | None = None,
) -> Generator[FileForm]:
    """The form in `body`, whose part `file` is the file.

    Its fields hold `needed` even when it stands behind the file (a temporary file then bridges). `known` is called with
    every other field's name, `too_large` with the bytes bridged so far; both raise to refuse. Raises InvalidRequest
    when the body is no such form.
    """
    form = _Form(content_type, body, known, file)
    form.read_to_file()
    if form.file is None:
        raise InvalidRequest(f"'{file}' is missing; send the file as a multipart part with a filename.", param=file)
    filename = form.file.filename or ""
    if needed is None or needed in form.fields:
        yield FileForm(filename, form.fields, form.file_chunks())
        return
    with tempfile.TemporaryFile() as bridge:
        size = 0
        for chunk in form.file_chunks():
            size += len(chunk)
            too_large(size)
            bridge.write(chunk)
        if needed not in form.fields:
            raise InvalidRequest(f"'{needed}' is missing; it is required.", param=needed)
        bridge.seek(0)
        yield FileForm(filename, form.fields, _read(bridge))


def _read(source: IO[bytes]) -> Iterator[bytes]:
    while chunk := source.read(_CHUNK):
        yield chunk


@dataclass
class _Form:
    """Pulls chunks from the body and turns the parser's callbacks into a queue of parts and bytes."""

    content_type: str
    body: Iterable[bytes]
    known: Callable[[str], None]
    file_name: str
    fields: dict[str, str] = field(default_factory=dict[str, str])
    file: _Part | None = None
    _events: deque[_Part | _PartEnd | bytes] = field(default_factory=deque["_Part | _PartEnd | bytes"])
    _parts: int = 0
    _ended: bool = False

    def __post_init__(self) -> None:
        kind, options = parse_options_header(self.content_type.encode())
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise InvalidRequest(
                "Files are uploaded as multipart/form-data with a boundary; Content-Type is "
                f"{self.content_type[:100]!r}."
            )
        self._header, self._value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._chunks = iter(self.body)
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def read_to_file(self) -> None:
        """Collects fields until the file's part begins or the form ends."""
        name, value = "", bytearray()
        for event in self._read_events():
            if isinstance(event, _Part):
                if event.name == self.file_name:
                    self._begin_file(event)
                    return
                self.known(event.name)
                name, value = event.name, bytearray()
            elif isinstance(event, _PartEnd):
                self._keep(name, value)
            else:
                value += event
                if len(value) > _MAX_FIELD_BYTES:
                    raise InvalidRequest(f"'{name}' is longer than {_MAX_FIELD_BYTES // 1024} KB.", param=name)

    def file_chunks(self) -> Iterator[bytes]:
        """The file's bytes; then reads on to the end of the form."""
        for event in self._read_events():
            if isinstance(event, bytes):
                yield event
            else:
                break
        file = self.file
        self.read_to_file()
        if self.file is not file:
            name = self.file_name
            raise InvalidRequest(f"The form has more than one '{name}'; upload one file a request.", param=name)
        if not self._ended:
            raise InvalidRequest("The body ended in the middle of the form; send it again.")

    def _begin_file(self, part: _Part) -> None:
        if part.filename is None:
            name = self.file_name
            raise InvalidRequest(f"'{name}' must be a file part with a filename, not a text field.", param=name)
        self.file = part

    def _keep(self, name: str, value: bytearray) -> None:
        if name in self.fields:
            raise InvalidRequest(f"'{name}' is given twice.", param=name)
        try:
            self.fields[name] = value.decode()
        except UnicodeDecodeError:
            raise InvalidRequest(f"'{name}' is not valid UTF-8.", param=name) from None

    def _read_events(self) -> Iterator[_Part | _PartEnd | bytes]:
        while True:
            while self._events:
                yield self._events.popleft()
            chunk = next(self._chunks, None)
            if chunk is None:
                return
            if chunk:
                self._feed(chunk)

    def _feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except MultipartParseError as error:
            raise InvalidRequest(f"The body is not a well-formed multipart form: {error}.") from error

    # --- the parser's callbacks --------------------------------------------------------------------------------------

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise InvalidRequest(f"The form has more than {_MAX_PARTS} parts.")
        self._headers = {}

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        filename = options.get(b"filename")
        self._events.append(_Part(name, None if filename is None else filename.decode("utf-8", "replace")))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(data[start:end])

    def _on_part_end(self) -> None:
        self._events.append(_PartEnd())

    def _on_end(self) -> None:
        self._ended = True
