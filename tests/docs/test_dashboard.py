"""The Grafana dashboard asks for metrics that exist, by labels that they have."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics import MetricWrapperBase

from tailorbird.api.metrics import Requests
from tailorbird.infra.blobs import open_blobs
from tailorbird.infra.metrics import MeteredBlobs, MeteredTrainer, StoreFigures, families, new_registry
from tailorbird.infra.schema import make_engine
from tailorbird.serving.metrics import Metrics
from tailorbird.worker import WorkerMetrics

ROOT = Path(__file__).parents[2]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "tailorbird.json").read_text("utf-8"))
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
_SAMPLE = re.compile(r"\b(?:tailorbird|process)_\w+")


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Every sample of server, worker and engine, with its labels."""
    registry = new_registry()
    database = make_engine(f"sqlite:///{tmp_path_factory.mktemp('db') / 't.db'}")
    StoreFigures(database, lambda: None, registry)  # type: ignore[arg-type,return-value]
    requests = Requests(lambda: 0).registry
    MeteredBlobs(open_blobs("memory://"), registry)
    MeteredTrainer(None, registry)  # type: ignore[arg-type]
    WorkerMetrics(registry)
    engine = Metrics(None, lambda: (0, 0))._collectors  # type: ignore[arg-type]
    found = {family.name: {*family._labelnames} for family in families().values()}
    for collector, names in itertools.chain.from_iterable(
        each._collector_to_names.items() for each in (registry, requests, engine)
    ):
        labels = set(collector._labelnames) if isinstance(collector, MetricWrapperBase) else set[str]()
        for name in names:
            found.setdefault(name, labels | ({"le"} if name.endswith("_bucket") else set()))
    for family in new_registry().collect():
        found |= {sample.name: set[str]() for sample in family.samples}
    return found


def test_the_dashboard_is_whole() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(places) == len(set(places))
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in DASHBOARD["panels"])
    assert len(EXPRESSIONS) > 30


def test_every_metric_of_the_dashboard_exists(known: dict[str, set[str]]) -> None:
    asked = {name for expression in EXPRESSIONS for name in _SAMPLE.findall(expression)}
    assert sorted(asked - set(known)) == []


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_groups_and_selects_by_labels_the_metric_has(expression: str, known: dict[str, set[str]]) -> None:
    labels = {word for group in re.findall(r"by \(([^)]*)\)", expression) for word in group.split(", ")}
    labels |= set(re.findall(r"(\w+)=~?\"", expression))
    # Prometheus adds the last two to everything it scrapes.
    given = set.union(*(known[name] for name in _SAMPLE.findall(expression))) | {"instance", "job"}
    assert labels <= given


def test_no_metric_of_ours_is_left_out(known: dict[str, set[str]]) -> None:
    shown = {re.sub(r"_(bucket|sum|count|total)$", "", n) for e in EXPRESSIONS for n in _SAMPLE.findall(e)}
    ours = {re.sub(r"_(bucket|sum|count|total|created)$", "", name) for name in known if name.startswith("tailorbird_")}
    assert sorted(ours - shown) == ["tailorbird_engine_structured_requests", "tailorbird_files"]
