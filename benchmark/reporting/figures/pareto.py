"""Pareto figures: mIoU against one cost, a panel a benchmark; without pyplot's global state."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from benchmark.analysis.costs import COSTS, by_column
from benchmark.analysis.efficiency import AVERAGE
from benchmark.analysis.leaderboard import GROUP, MIOU
from benchmark.analysis.pareto import log_positions, pareto_front
from benchmark.analysis.runs import Runs
from benchmark.reporting.figures.labels import Box, Scene, Segment, place_labels
from benchmark.reporting.figures.panels import DPI, Words, bounds, draw_panels, even_ticks
from benchmark.reporting.figures.picture import GroupView, Picture
from benchmark.reporting.figures.scales import log_scale, roomy
from benchmark.reporting.style import (
    FRONT,
    LABEL_SIZE,
    LEADER,
    MARKERS,
    SIZE,
    Style,
    handle,
    hollow,
    look,
    method_styles,
    pale,
)
from benchmark.reporting.timing_notes import measured

ORDER = 1
_SECTION = "Costs against mIoU"

MOST_LABELS = 8  # direct labels up to here, a legend beyond
PROBABLE = 0.5
"""A method is highlighted where it is on the front at least this often."""

CAP = 5.0  # width of the end of an interval, in typographic points
_GREY = Style("#777777", "o")


def pictures(view: GroupView) -> Iterator[Picture]:
    """MIoU against each cost that the runs have."""
    known, fronts = view.runs.cells, view.own(view.inputs.assessment.fronts)
    for cost in COSTS:
        column = cost.column
        if not cost.figure or known[column].isna().all():
            continue
        own = fronts if column in set(fronts["cost"]) else None
        reference = view.inputs.reference
        more: dict[str, Any] = {"intervals": view.intervals, "fronts": own, "reference": reference}
        if cost.reference:
            more["note"] = measured(view.runs.frame)
        words = f"mIoU against {cost.against}"
        draw = partial(
            pareto_figure, view.runs, column, cost.title, words + view.of, view.styles, **more
        )
        yield Picture(_SECTION, words, f"pareto_{cost.figure}{view.suffix}", draw)


def pareto_figure(
    runs: Runs,
    cost_column: str,
    label: str,
    title: str,
    styles: dict[str, Style] | None = None,
    *,
    intervals: pd.DataFrame | None = None,
    fronts: pd.DataFrame | None = None,
    reference: pd.DataFrame | None = None,
    note: str = "",
) -> Figure:
    """Draws mIoU against a cost: one panel a benchmark and one for the average.

    Points are means over seeds, with 95 % intervals; whiskers along a measured cost (time, memory,
    latency) reach from the smallest to the largest run. Methods are named beside their points if
    all names fit, else in a legend below.

    Args:
        runs: records of one backbone, weights and protocol.
        cost_column: of one of `costs.COSTS`.
        label: of the cost axis.
        title: of the figure.
        styles: of the methods, where several figures must agree; by default from these runs.
        intervals: GROUP, benchmark (or "average"), method, low, high in fractions; by default t
            intervals over seeds.
        fronts: GROUP, benchmark (or "average"), cost, method, probability of being on the front;
            methods below `PROBABLE` are drawn pale. By default all are drawn alike.
        reference: published numbers as `read_reference` returns them, drawn hollow in the panel
            of their benchmark (no other images give a comparable mIoU) where they count what the
            axis shows.
        note: how the cost was measured, a sentence.

    Returns:
        The figure, laid out, to be saved by `save_figure`.

    Raises:
        ValueError: the runs are of several backbones, weights or protocols, or there are none.
    """
    if runs.frame[GROUP].drop_duplicates().shape[0] != 1:
        raise ValueError("a Pareto figure shows one backbone, one kind of weights, one protocol")
    panels = _panels(runs, cost_column, intervals, fronts, reference)
    styles = _outlines(panels) | (styles or method_styles(list(runs.frame["method"])))
    notes = filter(None, [note, _note(panels)])
    words = Words(title, label, "mIoU (points)", " ".join(notes))
    shown = sorted({name for data in panels.values() for name in data["method"]})
    with look():
        if len(shown) <= MOST_LABELS:
            figure = _draw(panels, cost_column, words, styles, named=False)
            if _name_points(figure, panels):
                return figure
        return _draw(panels, cost_column, words, styles, named=True)


def save_figure(figure: Figure, stem: Path) -> list[Path]:
    """Writes `<stem>.png`, `.svg` and `.pdf`, the same bytes for the same figure."""
    png, svg, pdf = (stem.with_name(f"{stem.name}.{end}") for end in ("png", "svg", "pdf"))
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    # Not `savefig`, which draws everything twice to find out about layouts that change.
    with look():
        _save_png(figure, png)
        FigureCanvasSVG(figure).print_svg(svg, metadata={"Date": None, "Creator": None})
        plain = {"CreationDate": None, "Creator": None, "Producer": None}
        FigureCanvasPdf(figure).print_pdf(pdf, metadata=plain)
    return [png, svg, pdf]


def _save_png(figure: Figure, path: Path) -> None:
    """Writes 256 colours, a third of the bytes: flat colours and their soft edges need no more."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    # The palette that comes closest to the rarest colours: median cut and octree tint the paper.
    few = picture.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE)
    few.save(path, optimize=True, dpi=(figure.dpi, figure.dpi))


def _panels(
    runs: Runs,
    cost: str,
    intervals: pd.DataFrame | None,
    fronts: pd.DataFrame | None,
    reference: pd.DataFrame | None,
) -> dict[str, pd.DataFrame]:
    """The points of each panel by its title.

    Columns: method, cost, x (position of the cost on the axis), x_low, x_high, miou, low, high (in
    points), likely (on the front), source (of a published number, else empty).
    """
    table, board = runs.cells, runs.leaderboard
    names = sorted(table["benchmark"].unique())
    parts = {name: (name, table[table["benchmark"] == name]) for name in names}
    if len(names) > 1:
        average = board.assign(benchmark=AVERAGE)
        parts[f"average of {len(names)} benchmarks"] = (AVERAGE, average)
    published = {title: _published(reference, name, cost) for title, (name, _) in parts.items()}
    costs = [part[cost] for _, part in parts.values()] + [p["cost"] for p in published.values()]
    positions = log_positions(pd.concat(costs).dropna().astype(float))
    zero = float(positions.min()) if len(positions) else 1.0
    panels = {}
    for title, (name, part) in parts.items():
        own = bounds(part, intervals).dropna(subset=[MIOU, cost])
        own = own.assign(likely=_likely(own, name, cost, fronts))
        where = own[cost].where(own[cost] > 0, zero)
        points = {target: 100 * own[source] for target, source in _POINTS.items()}
        data = own[["method", "likely"]].assign(cost=own[cost], x=where, source="", **points)
        low, high = _spread(runs.current, name, cost, data["method"])
        data = data.assign(x_low=low.fillna(where), x_high=high.fillna(where))
        data = data.sort_values("method").reset_index(drop=True)
        others = published[title]
        at = others["cost"].where(others["cost"] > 0, zero)
        others = others.assign(x=at, x_low=at, x_high=at)
        panels[title] = pd.concat([data, others], ignore_index=True) if len(others) else data
    return panels


_POINTS = {"miou": MIOU, "low": "low", "high": "high"}


def _likely(
    part: pd.DataFrame, name: str, cost: str, fronts: pd.DataFrame | None
) -> pd.Series | bool:
    """Which methods are highlighted; all of them where no probability is known."""
    if fronts is None:
        return True
    own = fronts[(fronts["benchmark"] == name) & (fronts["cost"] == cost)]
    found = part[[*GROUP, "method"]].merge(own, on=[*GROUP, "method"], how="left")
    found.index = part.index
    return ~(found["probability"] < PROBABLE)


def _spread(
    runs: pd.DataFrame, name: str, cost: str, methods: pd.Series
) -> tuple[pd.Series, pd.Series]:
    """Smallest and largest cost of each method's finished runs; NaN for costs that are sizes.

    Of a ratio of times, the smallest and largest over the rounds in which it was measured.
    """
    if f"{cost}.low" in runs:
        means = runs[runs["status"] == "done"].groupby("method")
        low, high = (means[f"{cost}.{end}"].mean() for end in ("low", "high"))
        return methods.map(low), methods.map(high)
    if not by_column(cost).varies:
        nothing = pd.Series(np.nan, index=methods.index)
        return nothing, nothing
    rows = runs[runs["status"] == "done"]
    rows = rows if name == AVERAGE else rows[rows["benchmark"] == name]
    known = rows[cost].astype(float)
    ends = known[known > 0].groupby(rows["method"]).agg(["min", "max"])
    return methods.map(ends["min"]), methods.map(ends["max"])


def _published(reference: pd.DataFrame | None, name: str, cost: str) -> pd.DataFrame:
    """The published numbers that belong into a panel, as rows of it without their places."""
    columns = ["method", "cost", "miou", "low", "high", "likely", "source"]
    counts = by_column(cost).published
    if reference is None or not counts:
        return pd.DataFrame(columns=columns)
    rows = reference[(reference["counts"] == counts) & (reference["benchmark"] == name)]
    points = 100 * rows["miou"]
    source = rows["source"] + " (" + rows["backbone"] + ", " + rows["decoder"] + ")"
    own = rows[["method"]].assign(cost=rows["params"].astype(float), likely=False, source=source)
    return own.assign(miou=points, low=points, high=points)[columns]


def _outlines(panels: dict[str, pd.DataFrame]) -> dict[str, Style]:
    """Grey markers of published methods, for those that did not run here."""
    names = sorted(
        {name for data in panels.values() for name in data["method"][data["source"] != ""]}
    )
    return {name: Style(_GREY.colour, MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)}


def _note(panels: dict[str, pd.DataFrame]) -> str:
    """Where published numbers come from."""
    sources = sorted({text for data in panels.values() for text in data["source"] if text})
    if not sources:
        return ""
    return f"Hollow: published under other protocols ({'; '.join(sources)})."


def _draw(
    panels: dict[str, pd.DataFrame],
    cost: str,
    words: Words,
    styles: dict[str, Style],
    named: bool,
) -> Figure:
    """The figure, with its methods in the legend or without names."""
    everything = pd.concat(panels.values())
    zeros = everything.loc[everything["cost"] == 0, "x"]
    zero = float(zeros.min()) if len(zeros) else None
    ends = roomy(everything["x_low"].min(), everything["x_high"].max()) if len(everything) else None

    def draw(axis: Any, name: str) -> None:
        _draw_panel(axis, panels[name], styles)
        low, high = ends or (1.0, 10.0)
        log_scale(axis, "x", (low, high), by_column(cost).kind, zero=zero)
        axis.add_line(Line2D(*_staircase(panels[name], high), **FRONT))

    return draw_panels(
        list(panels), draw, words, _keys(panels, styles, named, cost), _average(panels)
    )


def _average(panels: dict[str, pd.DataFrame]) -> str | None:
    return list(panels)[-1] if len(panels) > 1 else None


def _keys(
    panels: dict[str, pd.DataFrame], styles: dict[str, Style], named: bool, cost: str
) -> list[Line2D]:
    """The legend."""
    everything = pd.concat(panels.values())
    own, published = (everything[(everything["source"] != "") == flag] for flag in (False, True))
    keys = []
    if named:
        keys += [handle(name, styles[name]) for name in sorted(set(own["method"]))]
        keys += [
            hollow(f"{name}, published", styles[name]) for name in sorted(set(published["method"]))
        ]
    keys.append(Line2D([], [], label="Pareto front", **FRONT))
    if not own["likely"].all():
        keys.append(pale(f"on the front with probability < {PROBABLE:g}", _GREY))
    mark: dict[str, Any] = {"color": "#555555", "linestyle": "none", "markersize": 9}
    if (own["low"] < own["high"]).any():
        keys.append(Line2D([], [], label="95 % interval", marker="|", **mark))
    if (own["x_low"] < own["x_high"]).any():
        each = "round" if by_column(cost).reference else "run"
        keys.append(Line2D([], [], label=f"smallest to largest {each}", marker="_", **mark))
    if len(published) and not named:
        keys.append(hollow("published", _GREY))
    return keys


def _draw_panel(axis: Any, data: pd.DataFrame, styles: dict[str, Style]) -> None:
    if data.empty:
        axis.set_yticks([])
        axis.text(0.5, 0.5, "no finished run", transform=axis.transAxes, ha="center", color="#777")
        return
    colours = [styles[name].colour for name in data["method"]]
    _bars(axis, data, colours)
    for row in _rows(data):
        make = hollow if row.source else handle if row.likely else pale
        axis.add_line(make(row.method, styles[row.method], [row.x], [row.miou]))
    low, high = data["low"].min(), data["high"].max()
    room = 0.16 * max(high - low, 1.0)
    axis.set_ylim(low - room, high + room)
    even_ticks(axis)


def _bars(axis: Any, data: pd.DataFrame, colours: list[str]) -> None:
    """Intervals with caps, and thin whiskers along the cost; few artists, since each one costs."""
    data = data.assign(colour=colours)
    # An interval that was made otherwise than the mean may leave it out by a hair.
    sure = data.assign(
        least=data[["miou", "low"]].min(axis=1), most=data[["miou", "high"]].max(axis=1)
    )
    sure = sure[sure["least"] < sure["most"]]
    axis.vlines(sure["x"], sure["least"], sure["most"], sure["colour"], linewidth=1.1, zorder=2)
    for ends in (sure["least"], sure["most"]):
        axis.scatter(
            sure["x"], ends, CAP**2, list(sure["colour"]), marker="_", linewidth=1.0, zorder=2
        )
    spread = data[data["x_low"] < data["x_high"]]
    axis.hlines(
        spread["miou"],
        spread["x_low"],
        spread["x_high"],
        spread["colour"],
        linewidth=0.7,
        alpha=0.6,
        zorder=2,
    )


def _rows(data: pd.DataFrame) -> list[Any]:
    return list(data.itertuples())


def _staircase(data: pd.DataFrame, right: float) -> tuple[list[float], list[float]]:
    """The best score at or below each cost, as corners of a line that ends at `right`."""
    own = data[data["source"] == ""]
    front = own[pareto_front(own["cost"], own["miou"])].sort_values("x")
    x = [*front["x"].repeat(2).iloc[1:], right] if len(front) else []
    return x, [*front["miou"].repeat(2)]


def _name_points(figure: Figure, panels: dict[str, pd.DataFrame]) -> bool:
    """Writes each method's name beside its point; False if some name fits nowhere."""
    pixel = DPI / 72
    for axis, data in zip(figure.axes, panels.values(), strict=True):
        at = axis.transData.transform(data[["x", "miou"]].to_numpy(dtype=float))
        bars = [_bar(axis, row, pixel) for row in _rows(data)]
        corners = axis.transData.transform(np.column_stack(_staircase(data, axis.get_xlim()[1])))
        lines: list[Segment] = [
            (tuple(first), tuple(second))
            for first, second in zip(corners.tolist(), corners.tolist()[1:], strict=False)
        ]
        # Whiskers along the cost are thin, and crossing one does not make a name unreadable.
        lines += [bar[1] for bar in bars]
        half = 0.55 * SIZE * pixel
        scene = Scene(
            frame=Box(*map(float, axis.get_window_extent().extents)),
            markers=[Box(x - half, y - half, x + half, y + half) for x, y in at.tolist()],
            obstacles=[bar[0] for bar in bars],
            lines=lines,
            pixel=pixel,
        )
        texts = [
            axis.annotate(
                row.method,
                (row.x, row.miou),
                (0, 0),
                textcoords="offset points",
                va="bottom",
                ha="left",
                fontsize=LABEL_SIZE,
                color="#777777" if row.source else "#222222",
            )
            for row in _rows(data)
        ]
        extents = [text.get_window_extent() for text in texts]
        labels = place_labels([(box.width, box.height) for box in extents], scene)
        if labels is None:
            return False
        for text, row, point, label in zip(texts, _rows(data), at, labels, strict=True):
            # Offsets in typographic points hold at every resolution, the SVG's too.
            text.set_position(
                ((label.box.x0 - point[0]) / pixel, (label.box.y0 - point[1]) / pixel)
            )
            if label.leader:
                ends_at = axis.transData.inverted().transform(label.leader[1])
                axis.add_line(Line2D([row.x, ends_at[0]], [row.miou, ends_at[1]], **LEADER))
    return True


def _bar(axis: Any, row: Any, pixel: float) -> tuple[Box, Segment]:
    """The interval of a point as a box in pixels, and its whisker as a segment."""
    (x, low), (_, high) = axis.transData.transform([(row.x, row.low), (row.x, row.high)])
    left, right = axis.transData.transform([(row.x_low, row.miou), (row.x_high, row.miou)])
    half = 0.275 * SIZE * pixel
    return Box(x - half, low, x + half, high), (tuple(left.tolist()), tuple(right.tolist()))
