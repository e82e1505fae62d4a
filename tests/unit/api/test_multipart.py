from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailorbird.api.multipart import open_form
from tailorbird.domain.errors import InvalidRequest

TYPE = "multipart/form-data; boundary=bound"


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    suffix = f'; filename="{filename}"' if filename is not None else ""
    return f'--bound\r\nContent-Disposition: form-data; name="{name}"{suffix}\r\n\r\n'.encode() + value + b"\r\n"


END = b"--bound--\r\n"


def read(body: list[bytes], content_type: str = TYPE) -> tuple[str, dict[str, str], bytes]:
    with open_form(content_type, body, lambda name: None, lambda size: None, needed="purpose") as upload:
        data = b"".join(upload.chunks)
        return upload.filename, dict(upload.fields), data


@given(st.binary(max_size=300), st.integers(1, 50), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_bytes_come_through_however_the_body_is_cut(data, size, file_first):
    # The one thing a file cannot hold is the boundary itself.
    parts = [part("purpose", b"fine-tune"), part("file", data.replace(b"--bound", b""), "a.jsonl")]
    body = b"".join(reversed(parts) if file_first else parts) + END
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    assert read(pieces) == ("a.jsonl", {"purpose": "fine-tune"}, data.replace(b"--bound", b""))


def test_a_file_is_never_held_whole():
    produced = 0

    def body():
        nonlocal produced
        yield part("purpose", b"x") + b'--bound\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(100):
            produced += 1
            yield b"y" * 1000
        yield b"\r\n" + END

    with open_form(TYPE, body(), lambda name: None, lambda size: None, needed="purpose") as upload:
        next(upload.chunks)
        assert produced <= 2
        assert sum(len(chunk) for chunk in upload.chunks) >= 98_000


def test_a_field_after_the_file_is_seen():
    body = [part("purpose", b"p") + part("file", b"data", "a") + part("extra", b"1") + END]
    assert read(body)[1] == {"purpose": "p", "extra": "1"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (part("purpose", b"p") + END, "file"),
        (part("file", b"data") + part("purpose", b"p") + END, "file"),
        (part("file", b"data", "a") + END, "purpose"),
        (part("purpose", b"p") + part("purpose", b"q") + part("file", b"d", "a") + END, "purpose"),
        (part("purpose", b"\xff") + part("file", b"d", "a") + END, "purpose"),
        (part("purpose", b"x" * 70_000) + part("file", b"d", "a") + END, "purpose"),
        (part("purpose", b"p") + part("file", b"d", "a") + part("file", b"e", "b") + END, "file"),
        (part("purpose", b"p") + part("file", b"d", "a"), None),
        (b"".join(part(f"f{n}", b"") for n in range(30)) + END, None),
        (b"garbage", None),
        (b"", "file"),
    ],
)
def test_forms_that_are_no_upload_are_refused_by_field(body, param):
    with pytest.raises(InvalidRequest) as caught:
        read([body])
    assert caught.value.param == param


@pytest.mark.parametrize("content_type", ["", "application/json", "multipart/form-data", "multipart/mixed; boundary=b"])
def test_another_content_type_is_refused(content_type):
    with pytest.raises(InvalidRequest, match="multipart/form-data"):
        read([END], content_type)


def test_a_bridged_file_is_measured_while_it_comes_in():
    sizes: list[int] = []
    body = [part("file", b"x" * 10, "a"), part("purpose", b"p") + END]
    with open_form(TYPE, body, lambda name: None, sizes.append, needed="purpose") as upload:
        assert b"".join(upload.chunks) == b"x" * 10
    assert max(sizes) == 10
