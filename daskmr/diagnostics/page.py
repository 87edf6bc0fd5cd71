"""The page that pictures stand on: one piece of HTML that asks no network for anything.

Its policy (CSP) allows only the scripts that it was made with, by a number that is used once. So
whatever a key or the name of a file holds, it is text; and Bokeh cannot load what it may wish to.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from daskmr.diagnostics.charts import COLOURS, Chart
from daskmr.diagnostics.figures import GROUPS, Picture
from daskmr.text import format_seconds, printable

__all__ = [
    "PAGE",
    "assemble",
    "figures_html",
    "listed",
    "phases_html",
    "section",
    "table",
    "text",
    "tiles",
]

PAGE = "<!DOCTYPE html>"
"""How a page begins."""

_GREY = "#c9c9c9"
_NARROW = 0.07  # of the whole: a phase too short for its name to fit


def text(content: object) -> str:
    """Write what comes from data as text of a page.

    >>> text("<b>\\n")
    '&lt;b&gt;\\\\n'
    """
    return escape(printable(str(content)))


def section(title: str, *content: str, hint: str = "") -> str:
    """Put content below a heading; nothing where there is none."""
    body = "\n".join(filter(None, content))
    if not body:
        return ""
    told = f'<p class="hint">{text(hint)}</p>' if hint else ""
    return f"<section><h2>{text(title)}</h2>{told}\n{body}\n</section>"


def tiles(values: Iterable[tuple[str, str, str]]) -> str:
    """Write figures large: what each is, the figure, and a word on it."""
    parts = [
        f'<div class="tile"><dt>{text(name)}</dt><dd>{text(value)}</dd>'
        f'<dd class="note">{text(note)}</dd></div>'
        for name, value, note in values
    ]
    return f'<dl class="tiles">{"".join(parts)}</dl>' if parts else ""


def table(rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> str:
    """Write a table; under a head, numbers stand to the right."""
    numbers = bool(head)
    body = "".join(f"<tr>{''.join(_cell(v, numbers) for v in row)}</tr>" for row in rows)
    if not body:
        return ""
    top = "".join(f"<th>{text(name)}</th>" for name in head)
    return f"<table>{f'<thead><tr>{top}</tr></thead>' if top else ''}<tbody>{body}</tbody></table>"


def _cell(value: object, numbers: bool) -> str:
    if numbers and isinstance(value, int) and not isinstance(value, bool):
        return f'<td class="number">{value:,}</td>'
    shown = f"{value:,}" if isinstance(value, int) and value is not True else value
    return f"<td>{text(shown)}</td>"


def listed(items: Iterable[str]) -> str:
    """Write pieces of HTML as a list."""
    body = "".join(f"<li>{item}</li>" for item in items)
    return f"<ul>{body}</ul>" if body else ""


def phases_html(timings: Mapping[str, float]) -> str:
    """Draw how long each phase took as parts of one bar."""
    parts = {name: max(0.0, s) for name, s in timings.items() if name != "total"}
    total = sum(parts.values())
    if total <= 0:
        return ""
    bars, words = [], []
    for name, seconds in parts.items():
        share, colour = seconds / total, COLOURS.get(name, _GREY)
        label = text(name) if share > _NARROW else ""
        bars.append(
            f'<span style="width:{100 * share:.3f}%;background:{colour}33;'
            f'border-top:3px solid {colour}">{label}</span>'
        )
        words.append(
            f'<span><i style="background:{colour}"></i>{text(name)} '
            f"<b>{text(format_seconds(seconds))}</b></span>"
        )
    return f'<div class="phases">{"".join(bars)}</div><p class="key">{"".join(words)}</p>'


# --- pictures -----------------------------------------------------------------------------------


def figures_html(
    pictures: Mapping[str, Picture], charts: Mapping[str, Chart | None], *, keep_empty: bool
) -> tuple[str, str]:
    """Write the pictures in their groups.

    Parameters
    ----------
    pictures, charts : mappings
        By name.
    keep_empty : bool
        Keep room, hidden, for pictures that have nothing to show yet.

    Returns
    -------
    (str, str)
        The HTML, and the script that draws.
    """
    from bokeh.embed import components

    shown = {n: p for n, p in pictures.items() if keep_empty or charts.get(n) is not None}
    if not shown:
        return "", ""
    script, places = components({n: p.figure for n, p in shown.items()}, wrap_script=False)
    groups = [
        _group(title, shape, [n for n in names if n in shown], pictures, charts, places)
        for title, (shape, names) in GROUPS.items()
    ]
    return "\n".join(groups), script


def _group(
    title: str,
    shape: str,
    names: Sequence[str],
    pictures: Mapping[str, Picture],
    charts: Mapping[str, Chart | None],
    places: Mapping[str, str],
) -> str:
    if not names:
        return ""
    parts = [_picture(pictures[name], charts.get(name), places[name]) for name in names]
    hidden = "" if any(charts.get(name) is not None for name in names) else " hidden"
    inner = f'<div class="{shape}">{"".join(parts)}</div>'
    return f'<section class="group"{hidden}><h2>{text(title)}</h2>\n{inner}</section>'


def _picture(picture: Picture, chart: Chart | None, place: str) -> str:
    unit, note = (chart.unit, chart.note) if chart is not None else ("", "")
    hint = f'<p class="hint">{text(picture.hint)}</p>' if picture.hint else ""
    return (
        f'<figure id="{picture.name}"{"" if chart is not None else " hidden"}>'
        f'<figcaption><h3>{text(picture.title)}</h3> <span class="unit">{text(unit)}</span>'
        f'<span class="note">{text(note)}</span>{hint}</figcaption>{place}</figure>\n'
    )


# --- the page -----------------------------------------------------------------------------------


def assemble(title: str, body: str, scripts: Sequence[str], *, talks: bool = False) -> str:
    """Make a page that holds all it needs.

    Parameters
    ----------
    title : str
    body : str
        HTML.
    scripts : sequence of str
        What runs in it, beside Bokeh; in this order, after the body.
    talks : bool
        Let it ask the server that it came from for data.
    """
    from bokeh.resources import Resources

    once = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; script-src 'nonce-{once}'; style-src 'unsafe-inline'; "
        f"img-src data:; font-src data:; base-uri 'none'; form-action 'none'"
    )
    if talks:
        policy += "; connect-src 'self'"
    # Widgets, tables, formulas and the like stay out: they are twice as large as what is used.
    bokeh = (
        Resources(mode="inline", components=["bokeh"], log_level="warn").js_raw if scripts else []
    )
    code = "\n".join(
        f'<script nonce="{once}">\n{script}\n</script>' for script in [*bokeh, *scripts]
    )
    return f"""{PAGE}
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{text(title)}</title>
<style>{_CSS}</style>
</head>
<body>
{body}
{code}
</body>
</html>
"""


_CSS = """
:root { color-scheme: light; --ink: #222; --soft: #6b6b6b; --faint: #e6e6e6; --accent: #0072b2; }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body { margin: 0 auto; padding: 28px 32px 48px; max-width: 1240px; background: #fff; color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
header { border-bottom: 2px solid var(--ink); padding-bottom: 10px; }
h1 { font-size: 25px; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
header p { margin: 3px 0 0; color: var(--soft); overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 34px 0 8px; padding-bottom: 3px; border-bottom: 1px solid var(--faint); }
h3 { font-size: 14px; margin: 0; display: inline; }
code, pre { font: 13px/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
li { overflow-wrap: anywhere; }
code { overflow-wrap: anywhere; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f7f7f7; padding: 12px 14px; margin: 0; }
.hint { color: var(--soft); font-size: 13px; margin: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 10px 24px;
  margin: 20px 0 0; }
.tile dt { color: var(--soft); font-size: 13px; }
.tile dd { margin: 0; font-size: 23px; line-height: 1.25; font-variant-numeric: tabular-nums; white-space: nowrap; }
.tile dd.note { font-size: 13px; color: var(--soft); white-space: normal; }
.phases { display: flex; height: 30px; margin-top: 4px; }
.phases span { min-width: 1px; overflow: hidden; font-size: 13px; line-height: 27px; padding-left: 6px; white-space: nowrap; }
.phases span:empty { padding: 0; }
.key { margin: 6px 0 0; font-size: 13px; color: var(--soft); }
.key span { margin-right: 18px; white-space: nowrap; }
.key b { font-weight: 600; color: var(--ink); }
.key i { display: inline-block; width: 10px; height: 10px; margin-right: 6px; }
figure { margin: 14px 0 0; min-width: 0; }
figcaption { margin-bottom: 2px; }
figcaption .unit { color: var(--soft); font-size: 13px; margin-left: 4px; }
figcaption .note { float: right; color: var(--soft); font-size: 13px; margin-top: 2px; }
.halves { display: flex; flex-wrap: wrap; gap: 0 36px; }
.halves figure { flex: 1 1 460px; }
.losses { margin: 4px 0 0; padding: 0; list-style: none; }
.losses li { padding: 9px 0 9px 14px; border-left: 3px solid #d55e00; margin: 0 0 10px; }
.losses .seconds { float: right; color: var(--soft); font-variant-numeric: tabular-nums; margin-left: 16px; }
.losses p { margin: 0; overflow-wrap: anywhere; }
.losses .advice { color: var(--soft); }
.well { color: var(--soft); }
.failure { border-left: 3px solid #d55e00; padding-left: 14px; }
table { border-collapse: collapse; font-size: 14px; }
th { text-align: left; white-space: nowrap; font-weight: 600; color: var(--soft); font-size: 13px; }
th, td { padding: 3px 28px 3px 0; vertical-align: top; overflow-wrap: anywhere; }
tbody tr + tr td { border-top: 1px solid var(--faint); }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td:first-child { color: var(--soft); white-space: nowrap; }
thead + tbody td:first-child { white-space: normal; }
.columns { display: flex; flex-wrap: wrap; gap: 0 48px; }
.columns > section { flex: 1 1 420px; min-width: 0; }
nav { float: right; font-size: 14px; margin-top: 6px; }
nav a { color: var(--accent); margin-left: 16px; }
@media (max-width: 640px) { body { padding: 16px; } }
@media print { body { padding: 0; } figure, .losses li { break-inside: avoid; } }
"""
