"""Line charts over the steps of a job: drawn once, then given what is new; in the page's own colours, light or dark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from tailorbird.studio.curves import MEAN_TRAIN_LOSS, Curves, Pair, Point, pairs
from tailorbird.studio.visit import Visit

_LOCALES = {"en": "en-US", "ja": "ja-JP", "nl": "nl-NL"}


@dataclass(frozen=True, slots=True)
class Line:
    """`key` is a number of the steps, `name` what the reader calls it. Validation is dashed and marked, so that it is
    told apart without colours; `share` lines are read on an axis from 0 to 100 %."""

    key: str
    name: str
    validation: bool = False
    share: bool = False
    sparse: bool = False


class Plot:
    """One chart of a few lines with a caption; what it shows stands as a sentence in its label."""

    def __init__(self, visit: Visit, caption: str, lines: Sequence[Line], curves: Curves) -> None:
        self._visit = visit
        self._lines = lines
        self._caption = caption
        shown = [curves.pairs(line.key) for line in lines]
        self._last = [line[-1] if line else None for line in shown]
        with ui.element("figure").classes("plot"):
            with ui.element("figcaption").classes("h3"):
                ui.label(caption).classes("inline")
            # Elements of SVG follow the page's colours by themselves.
            self._chart = ui.echart(_options(visit, lines, shown), renderer="svg").classes("plot-area")
            self._chart.props("role=img")
            self._chart.props["aria-label"] = self.summary

    @property
    def summary(self) -> str:
        told = [
            self._visit.t("job.plot_value", name=line.name, value=value_text(self._visit, line, last[1]))
            for line, last in zip(self._lines, self._last, strict=True)
            if last is not None
        ]
        return f"{self._caption}. " + ("; ".join(told) or self._visit.t("job.plot_empty"))

    def add(self, points: Sequence[Point], curves: Curves) -> None:
        """Sends the browser the new points alone."""
        new = [self._new(line, last, points, curves) for line, last in zip(self._lines, self._last, strict=True)]
        if not any(new):
            return
        self._last = [added[-1] if added else last for added, last in zip(new, self._last, strict=True)]
        told = [[[x, _short(y)] for x, y in added] for added in new]
        # Changing a prop would send the whole chart again.
        self._chart.client.run_javascript(
            f"studio.plot({self._chart.id},{json.dumps(told)},{json.dumps(self.summary)})"
        )

    def _new(self, line: Line, last: Pair | None, points: Sequence[Point], curves: Curves) -> list[Pair]:
        found = curves.pairs(line.key) if line.key == MEAN_TRAIN_LOSS else pairs(points, line.key)
        return [pair for pair in found if last is None or pair[0] > last[0]]


def value_text(visit: Visit, line: Line, value: float) -> str:
    return f"{visit.t.number(100 * value, 1)} %" if line.share else visit.t.number(value, 3)


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _options(visit: Visit, lines: Sequence[Line], shown: Sequence[Sequence[Pair]]) -> dict[str, Any]:
    locale = _LOCALES[visit.t.language]
    share = [line.share for line in lines]
    axes = [_axis(locale, share=False)] if not all(share) else []
    if any(share):
        axes.append(_axis(locale, share=True) | ({"position": "right", "splitLine": {"show": False}} if axes else {}))
    return {
        "animation": False,
        "textStyle": {"fontFamily": "inherit", "color": "var(--quiet)"},
        "grid": {"left": 8, "right": 12, "top": 34 if len(lines) < 3 else 56, "bottom": 4, "containLabel": True},
        "legend": {
            "top": 0,
            "left": 0,
            "itemWidth": 22,
            "itemGap": 14,
            "textStyle": {"color": "var(--ink)", "fontSize": 12},
            "inactiveColor": "var(--line)",
            "lineStyle": {"width": 2},
        },
        "tooltip": {
            "trigger": "axis",
            "confine": True,
            "backgroundColor": "var(--raised)",
            "borderColor": "var(--line)",
            "textStyle": {"color": "var(--ink)", "fontSize": 12},
            "axisPointer": {"lineStyle": {"color": "var(--quiet)"}, "animation": False},
            ":formatter": f"(many) => studio.told(many, {json.dumps(visit.t('job.step'))}, "
            f"{json.dumps(locale)}, {json.dumps([line.share for line in lines])})",
        },
        "xAxis": {
            "type": "value",
            "min": 0,
            "minInterval": 1,
            "splitNumber": 4,
            "axisLine": {"lineStyle": {"color": "var(--line)"}},
            "axisTick": {"show": False},
            "splitLine": {"show": False},
            "axisLabel": {"color": "var(--quiet)", "hideOverlap": True},
        },
        "yAxis": axes,
        "series": [
            _series(place, line, pairs_of, on_right=line.share and not all(share))
            for place, (line, pairs_of) in enumerate(zip(lines, shown, strict=True))
        ],
    }


def _axis(locale: str, *, share: bool) -> dict[str, Any]:
    bounds: dict[str, Any] = {"min": 0, "max": 1, "interval": 0.25} if share else {"min": 0}
    form = "(v) => Math.round(100 * v) + ' %'" if share else f"(v) => v.toLocaleString('{locale}')"
    return {
        "type": "value",
        "splitNumber": 4,
        **bounds,
        "splitLine": {"lineStyle": {"color": "var(--line)"}},
        "axisLabel": {"color": "var(--quiet)", ":formatter": form},
    }


def _series(place: int, line: Line, shown: Sequence[Pair], *, on_right: bool) -> dict[str, Any]:
    colour = f"var(--curve-{place + 1})"
    return {
        "type": "line",
        "name": line.name,
        "data": [[x, _short(y)] for x, y in shown],
        "yAxisIndex": 1 if on_right else 0,
        "showSymbol": line.sparse,
        "symbol": "none" if not line.sparse else "diamond" if line.validation else "circle",
        "symbolSize": 7,
        "color": colour,
        "itemStyle": {"color": colour},
        "lineStyle": {
            "width": 2 if line.sparse else 1.5,
            "color": colour,
            "type": "dashed" if line.validation else "solid",
        },
        "emphasis": {"disabled": True},
    }
