"""A dropped file on its way: what each message of the browser makes of it."""

from __future__ import annotations

from tailorbird.studio.dropping import Progress

FILE = Progress("f1", "a.jsonl", 1000)


def test_progress_is_the_share_of_bytes_sent() -> None:
    assert (FILE.share, FILE.under_way) == (0.0, True)
    halfway = FILE.after({"state": "sending", "sent": 500})
    assert (halfway.share, halfway.under_way) == (0.5, True)


def test_after_the_last_byte_the_service_still_has_to_save_it() -> None:
    assert FILE.after({"state": "sending", "sent": 1000}).state == "saving"
    # The form around a file has bytes of its own.
    assert FILE.after({"state": "sending", "sent": 1200}).share == 1.0


def test_a_finished_file_has_its_id_and_a_refused_one_the_service_s_words() -> None:
    done = FILE.after({"state": "done", "id": "file-1", "message": None})
    assert (done.id, done.under_way, done.share) == ("file-1", False, 1.0)
    refused = FILE.after({"state": "sending", "sent": 400}).after({"state": "refused", "message": "Too many files."})
    assert (refused.message, refused.under_way, refused.sent) == ("Too many files.", False, 400)


def test_an_empty_file_is_on_its_way_too() -> None:
    assert Progress("f2", "empty.jsonl", 0).share == 0.0
