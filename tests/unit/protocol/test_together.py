from __future__ import annotations

import pytest

from tailorbird.protocol.together import Left, Message, Stop, Train, message_from_line, message_to_line


@pytest.mark.parametrize("message", [Train(3, "/runs/ftjob-1/plan \n.json"), Stop(3), Left(0)])
def test_a_message_is_one_line_and_comes_back_as_it_was(message: Message) -> None:
    line = message_to_line(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert message_from_line(line) == message


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"3", b'{"word":"dance","run":1}', b'{"word":"stop"}', b"\xff"])
def test_any_other_line_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        message_from_line(line)
