"""Empty Bokeh figures in the style of all pictures. Bokeh is imported when the first is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daskmr.diagnostics.plotting.base import Chart, Settings

if TYPE_CHECKING:
    from bokeh.models import ColumnDataSource, Range1d
    from bokeh.plotting import figure as Figure

__all__ = [
    "INK",
    "SOFT",
    "TEXT",
    "add_hover",
    "add_legend",
    "empty_source",
    "fill",
    "new_figure",
    "time_figure",
    "value_range",
]

INK = "#333333"
SOFT = "#767676"
_FAINT = "#e6e6e6"
_FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
_LEFT = 118  # pixels, the same for all figures, so that their time axes line up
_RIGHT = 16
_HEADROOM = 1.08  # above the highest value

TEXT = {"text_font": {"value": _FONT}, "text_font_size": "12px"}
"""Properties of text glyphs."""


def new_figure(height: int, x_range: Range1d | None = None, *, tools: str = "") -> Figure:
    from bokeh.models import Range1d
    from bokeh.plotting import figure

    made = figure(
        height=height,
        sizing_mode="stretch_width",
        x_range=x_range or Range1d(0.0, 1.0),
        y_range=Range1d(0.0, 1.0),
        tools=tools,
        toolbar_location="right" if tools else None,
        min_border_left=_LEFT,
        min_border_right=_RIGHT,
        min_border_top=4,
        min_border_bottom=24,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        output_backend="canvas",
    )
    made.toolbar.logo = None
    made.toolbar_inner = True
    made.toolbar.autohide = True
    made.xgrid.grid_line_color = None
    made.ygrid.grid_line_color = _FAINT
    for axis in (made.xaxis[0], made.yaxis[0]):
        axis.update(
            axis_line_color=None,
            major_tick_line_color=None,
            minor_tick_line_color=None,
            major_label_text_color=SOFT,
            major_label_text_font=_FONT,
            major_label_text_font_size="12px",
        )
    made.xaxis[0].axis_line_color = "#b0b0b0"
    made.yaxis[0].ticker.desired_num_ticks = 3
    made.yaxis[0].formatter.use_scientific = False  # a few milliseconds are 0.003 s
    return made


def time_figure(height: int, time: Range1d) -> Figure:
    """Return a figure over time; zooming one of them zooms all."""
    from bokeh.models import PrintfTickFormatter

    made = new_figure(height, time, tools="xbox_zoom,xpan,reset")
    made.xaxis[0].formatter = PrintfTickFormatter(format="%.5g s")
    made.xaxis[0].ticker.desired_num_ticks = 10
    return made


def empty_source(names: str) -> ColumnDataSource:
    """Return a data source with empty columns, given their names with spaces between."""
    from bokeh.models import ColumnDataSource

    return ColumnDataSource({name: [] for name in names.split()})


def add_hover(made: Figure, renderer: Any, *rows: tuple[str, str], **options: Any) -> None:
    from bokeh.models import HoverTool

    # Bokeh escapes values of columns, unless they are marked {safe}.
    made.add_tools(HoverTool(renderers=[renderer], tooltips=list(rows), visible=False, **options))


def add_legend(made: Figure) -> None:
    """Move the legend above the figure."""
    legend = made.legend[0]
    legend.update(
        orientation="horizontal",
        border_line_color=None,
        background_fill_color=None,
        label_text_font=_FONT,
        label_text_font_size="12px",
        label_text_color=INK,
        label_height=12,
        glyph_height=12,
        glyph_width=18,
        spacing=14,
        padding=0,
        margin=2,
    )
    made.add_layout(legend, "above")


def value_range(highest: float) -> Settings:
    """Return the settings of a value axis that begins at zero."""
    return {"y": {"start": 0.0, "end": highest * _HEADROOM if highest > 0 else 1.0}}


def fill(made: Figure, chart: Chart) -> None:
    """Show a chart in a figure; `templates/live.js` does the same in a browser."""
    for name, columns in chart.sources.items():
        source = next(r.data_source for r in made.renderers if r.name == name)
        source.data = columns
    parts = {
        "figure": made,
        "x": made.x_range,
        "y": made.y_range,
        "x-format": made.below[0].formatter,
        "y-axis": made.left[0],
        "y-ticks": made.left[0].ticker,
    }
    parts |= dict(zip(["legend"], made.legend, strict=False))
    for part, properties in chart.settings.items():
        if part in parts:
            parts[part].update(**properties)
