"""Every chart of a report as files for a paper or slides: PNG, SVG and PDF, in the light colours."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import vl_convert

from equipoise.report.analyses import look
from equipoise.report.charts import Chart, gather
from equipoise.report.look import LOOK, painted
from equipoise.report.maps import SHARES
from equipoise.study import Store, findings

# Pixels, as on the page.
WIDE, PANEL = 640, 320
SCALE = 3.0
FONT = "Arial, Liberation Sans, sans-serif"
_NAMES: dict[str, Any] = {
    "orient": "bottom",
    "title": None,
    "columns": 3,
    "symbolLimit": 0,
    "symbolOpacity": 1,
    "symbolSize": 60,
}


def pictures(store: Store, folder: Path, gate: bool = False) -> list[Path]:
    """Writes ``NAME.png``, ``NAME.svg`` and ``NAME.pdf`` of every chart.

    Args:
        store: of a study.
        folder: is made where there is none.
        gate: as for :func:`~equipoise.study.findings`.
    """
    found = findings(store, gate=gate)
    sections = gather(found, look(store, found))
    charts = [chart for section in sections.values() for chart in section]
    return [path for chart in charts for path in save(chart.name, to_svg(chart), folder)]


def to_svg(chart: Chart) -> str:
    """A chart that stands alone: with a title, and legends in place of the page's keys."""
    spec = {
        **_alone(chart.spec),
        "width": WIDE if chart.wide else PANEL,
        "title": {"text": chart.title, "anchor": "start", "fontSize": 12, "limit": WIDE},
        "config": {**LOOK, "font": FONT},
        "background": "white",
        "padding": 8,
    }
    return str(vl_convert.vegalite_to_svg(painted(spec)))


def save(name: str, svg: str, folder: Path) -> Iterable[Path]:
    """Writes a picture in every form, and gives the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    forms = {
        "svg": svg.encode(),
        "png": vl_convert.svg_to_png(svg, scale=SCALE),
        "pdf": vl_convert.svg_to_pdf(svg),
    }
    for ending, content in forms.items():
        path = folder / f"{name}.{ending}"
        path.write_bytes(content)
        yield path


def _alone(value: Any) -> Any:
    if isinstance(value, list):
        return [_alone(each) for each in value]
    if not isinstance(value, dict):
        return value
    own = {key: _alone(each) for key, each in value.items()}
    if "legend" in own and own["legend"] is None:
        own["legend"] = SHARES if own.get("type") == "quantitative" else _NAMES
    return own
