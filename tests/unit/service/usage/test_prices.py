"""The price list: Microsoft's published table, and files with faults."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from tailorbird.domain.pricing import Meter, PriceList
from tailorbird.service.models import load_catalogue
from tailorbird.service.usage.prices import PricesError, load_prices, unpriced

PACKAGE = Path(__file__).parents[4] / "src" / "tailorbird"
PUBLISHED = {
    "babbage-002": ("34", "1.70", "0.0004", "0.0004"),
    "davinci-002": ("68", "3.00", "0.0020", "0.0020"),
    "gpt-35-turbo-0613": ("102", "7.00", "0.0015", "0.0020"),
}
METERS = (Meter.TRAINING_HOURS, Meter.HOSTING_HOURS, Meter.INPUT_TOKENS, Meter.OUTPUT_TOKENS)


@pytest.mark.parametrize("model", PUBLISHED)
def test_the_list_that_comes_with_the_package_is_the_published_table(model: str) -> None:
    prices = load_prices(PACKAGE / "prices.toml").of(model)
    assert prices.training_meter is Meter.TRAINING_HOURS
    assert tuple(prices.of(meter) for meter in METERS) == tuple(Decimal(text) for text in PUBLISHED[model])


def test_examples_are_paid_by_the_token_and_models_without_a_price_are_named() -> None:
    prices = load_prices(PACKAGE / "prices.toml")
    assert prices.of("gpt-4o-mini-2024-07-18").training_meter is Meter.TRAINING_TOKENS
    free = unpriced(prices, load_catalogue(PACKAGE / "catalog.toml"))
    assert "weaver" in free
    assert not {"gpt-35-turbo-0125", "gpt-4o-2024-08-06", *PUBLISHED} & set(free)


def write(folder: Path, text: str) -> Path:
    path = folder / "prices.toml"
    path.write_text(text)
    return path


def test_any_change_of_the_file_changes_the_version(tmp_path: Path) -> None:
    text = 'version = "7"\ncurrency = "EUR"\n[model.m]\ninput_1k = {}\n'
    first, second = (load_prices(write(tmp_path, text.format(price))) for price in ("0.1", "0.2"))
    assert first.version != second.version
    assert first.version.startswith("7+")
    assert (first.currency, first.of("M").input_tokens) == ("EUR", Decimal("0.1"))


def test_every_fault_is_named_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'currency = 3\nmodels = 1\n[model.a]\ntraining_hour = "1"\ntraining_1k = "1"\n'
        '[model.b]\nhosting = "1"\ninput_1k = "-1"\noutput_1k = "NaN"\nhosting_hour = true\n[model.B]\n',
    )
    with pytest.raises(PricesError) as caught:
        load_prices(path)
    text = str(caught.value)
    for part in (
        "9 fault(s)",
        "models: unknown",
        "version: missing",
        "currency: 3 is not a text",
        "[model.a]: training_hour and training_1k",
        "[model.b] hosting: unknown",
        "[model.b] input_1k: '-1'",
        "[model.b] output_1k: 'NaN'",
        "[model.b] hosting_hour: True",
        "a name stands there twice",
    ):
        assert part in text, part


def test_a_file_that_is_no_toml_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(PricesError, match=r"prices\.toml"):
        load_prices(write(tmp_path, "[["))


def test_without_a_list_everything_is_free() -> None:
    assert PriceList().of("anything").of(Meter.TRAINING_HOURS) == 0
