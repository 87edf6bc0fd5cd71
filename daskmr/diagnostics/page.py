"""Pages with pictures: self-contained HTML that requests nothing from the network.

The content security policy (CSP) allows only the page's own scripts, by a nonce. So keys and file
names cannot inject scripts, and Bokeh cannot load anything either.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from daskmr.diagnostics.pictures import make_figures, pictures
from daskmr.diagnostics.plotting import Chart, Figure, Picture
from daskmr.text import counted, format_bytes, format_seconds, printable

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["Section", "draw", "embed", "render"]


class Section(NamedTuple):
    """The pictures under one heading, each with its chart and the HTML in which its figure is drawn."""

    title: str
    layout: str
    hidden: bool
    pictures: Sequence[tuple[Picture, Chart | None, str]]


def embed(charts: Mapping[str, Chart | None], *, keep_empty: bool) -> tuple[list[Section], str]:
    """Return the sections of pictures, and the script that draws them.

    With `keep_empty`, pictures without data are included but hidden.
    """
    figures = {
        name: figure
        for name, figure in make_figures(charts).items()
        if keep_empty or charts.get(name) is not None
    }
    if not figures:
        return [], ""
    script, places = draw(figures)
    sections = []
    shown = (pictures()[name] for name in figures)
    for title, members in groupby(shown, key=lambda picture: picture.section):
        group = [(picture, charts.get(picture.name), places[picture.name]) for picture in members]
        layout = "halves" if group[0][0].half_width else "wide"
        sections.append(Section(title, layout, not any(chart for _, chart, _ in group), group))
    return sections, script


def draw(figures: Mapping[str, Figure]) -> tuple[str, dict[str, str]]:
    """Return the script that draws figures, and the HTML for the place of each."""
    from bokeh.embed import components
    from bokeh.themes import Theme

    theme = Theme(filename=Path(__file__).with_name("templates") / "theme.yaml")
    script, places = components(dict(figures), wrap_script=False, theme=theme)
    return script, places


def render(
    template: str, *, scripts: Sequence[str] = (), connects: bool = False, **values: Any
) -> str:
    """Render a self-contained page from a template that extends ``page.html``.

    `scripts` are JavaScript that runs in this order after Bokeh's. A page that `connects` may send
    requests to its own server.
    """
    from bokeh.resources import Resources

    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; "
        f"img-src data:; font-src data:; base-uri 'none'; form-action 'none'"
    )
    if connects:
        policy += "; connect-src 'self'"
    # Omit widgets, tables and formulas, which are twice as large as the rest.
    bokeh = Resources(mode="inline", components=["bokeh"], log_level="warn")
    values |= {"nonce": nonce, "policy": policy}
    values["scripts"] = [*bokeh.js_raw, *scripts] if scripts else []
    return _environment().get_template(template).render(**values)


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
    )
    environment.filters |= {
        "bytes": format_bytes,
        "counted": counted,
        "seconds": format_seconds,
        "thousands": lambda value: f"{value:,}" if type(value) is int else value,
    }
    return environment


def _printable(value: Any) -> Any:
    """Escape control characters and characters that cannot be encoded."""
    is_text = isinstance(value, str) and not hasattr(value, "__html__")
    return printable(value) if is_text else value
