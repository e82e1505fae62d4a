from __future__ import annotations

import textwrap
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from tailorbird.service.models import Catalogue, CatalogueError, load_catalogue


@pytest.fixture
def load(tmp_path: Path):
    """Reads TOML beside a folder called `tiny`."""
    (tmp_path / "tiny").mkdir()

    def read(text: str) -> Catalogue:
        path = tmp_path / "catalog.toml"
        path.write_text(textwrap.dedent(text))
        return load_catalogue(path, hub_cache=tmp_path / "hub")

    return read


BASE = """
    [base.tiny]
    folder = "tiny"
    max_tokens = 64
    learning_rate = 1e-3
"""


def test_a_full_catalogue_is_read_to_the_last_field(load, tmp_path):
    catalogue = load(
        BASE
        + """
    lora_rank = 8
    lora_alpha = 24
    [base.tiny.auto]
    batch_fraction = 0.5
    min_batch_size = 2
    max_batch_size = 4
    seen_examples = 10
    min_epochs = 2
    max_epochs = 3
    [model."big-2024-08-06"]
    base = "tiny"
    short = "big"
    version = "2024-08-06"
    inference_until = 2027-01-01
    [model.old]
    base = "tiny"
    chat = false
    created = 2020-02-02
    """
    )
    base = catalogue.base("tiny")
    assert (base.folder, base.max_tokens, base.lora_rank, base.lora_alpha) == (str(tmp_path / "tiny"), 64, 8, 24)
    assert (base.auto.batch_fraction, base.auto.seen_examples, base.auto.max_epochs) == (0.5, 10, 3)
    big, old = catalogue.entries
    assert (big.name, big.short, big.chat, big.completion) == ("big-2024-08-06", "big", True, False)
    assert (big.created_at, big.inference_until) == (datetime(2024, 8, 6, tzinfo=UTC), date(2027, 1, 1))
    assert (old.chat, old.completion, old.version) == (False, True, "1")
    assert old.created_at == datetime(2020, 2, 2, tzinfo=UTC)
    assert catalogue.entry("BIG") is catalogue.entry("Big-2024-08-06") is big
    assert catalogue.entry("bigger") is None


def test_every_fault_is_named_at_once_with_entry_and_field(load):
    with pytest.raises(CatalogueError) as caught:
        load(
            """
        [base.tiny]
        folder = "nowhere"
        max_tokens = -1
        learning_rate = "fast"
        lora_rank = true
        colour = "red"
        [base.tiny.auto]
        min_epochs = 5
        max_epochs = 2
        [model.a]
        base = "none"
        chat = false
        completion = false
        [model.b]
        base = "tiny"
        short = "A"
        inference_until = "soon"
        [model."bad name"]
        base = "tiny"
        [extra]
        """
        )
    message = str(caught.value)
    for part in (
        "[base.tiny] folder: 'nowhere' is no folder",
        "[base.tiny] max_tokens: -1 is not",
        "[base.tiny] learning_rate: 'fast' is not",
        "[base.tiny] lora_rank: True is not",
        "[base.tiny] colour: unknown",
        "[base.tiny.auto] min_epochs: 5 is above",
        '[model."a"] base: there is no [base.none]',
        '[model."a"]: chat, completion and embeddings are all false',
        "[model.\"b\"] inference_until: 'soon' is not a date",
        '[model."bad name"]: a name has',
        "[extra]: unknown section",
    ):
        assert part in message, part
    assert message.startswith(str(caught.value).split(":", 1)[0] + ": 11 fault(s)")


def test_missing_fields_are_missing(load):
    with pytest.raises(CatalogueError, match=r"\[base.tiny\] max_tokens: missing"):
        load('[base.tiny]\nfolder = "tiny"\nlearning_rate = 1\n[model.a]\nbase = "tiny"')


def test_one_name_for_two_models_is_refused(load):
    with pytest.raises(CatalogueError, match="the name 'a' is taken"):
        load(BASE + '[model.a]\nbase = "tiny"\n[model.b]\nbase = "tiny"\nshort = "A"\n'.replace("\n", "\n    "))


def test_an_empty_or_broken_file_is_refused(load):
    with pytest.raises(CatalogueError, match="at least one model"):
        load(BASE)
    with pytest.raises(CatalogueError, match="line 1"):
        load("[[[")
    with pytest.raises(CatalogueError, match="must be a table"):
        load('[base]\ntiny = 3\n[model.a]\nbase = "tiny"')


def test_a_hub_id_is_found_in_the_local_cache(load, tmp_path):
    cached = tmp_path / "hub" / "models--org--small"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("abc123")
    (cached / "snapshots" / "abc123").mkdir(parents=True)
    catalogue = load(BASE.replace('"tiny"', '"org/small"') + '    [model.a]\n    base = "tiny"')
    assert catalogue.base("tiny").folder == str(cached / "snapshots" / "abc123")


def test_the_catalogue_of_the_package_is_sound():
    from tailorbird.service import models

    path = Path(models.__file__).parents[1] / "catalog.toml"
    catalogue = load_catalogue(path)
    names = {entry.name for entry in catalogue.entries}
    assert {"gpt-35-turbo-0613", "gpt-4o-mini-2024-07-18", "babbage-002", "davinci-002", "weaver"} <= names
    assert catalogue.renderer("weaver") is catalogue.renderer("weaver"), "loaded once"
