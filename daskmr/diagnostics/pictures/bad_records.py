"""Bad records by reason."""

from __future__ import annotations

from daskmr.diagnostics.plotting import plots
from daskmr.diagnostics.plotting.base import STRAGGLER, Chart, Picture, RunView

__all__ = ["PICTURES"]


def _chart(run: RunView) -> Chart | None:
    shown = sorted(run.bad_reasons.items(), key=lambda item: (-item[1], item[0]))
    if not shown:
        return None
    if len(shown) > plots.MAX_ROWS:
        shown, others = shown[: plots.MAX_ROWS - 1], shown[plots.MAX_ROWS - 1 :]
        shown.append((f"{len(others):,} other reasons", sum(count for _, count in others)))
    return plots.ranking_chart(
        [reason for reason, _ in shown],
        [float(count) for _, count in shown],
        [f"{count:,}" for _, count in shown],
        STRAGGLER,
        f"{sum(run.bad_reasons.values()):,} in all",
    )


PICTURES = (Picture("bad-records", "By reason", "Bad records", 40, _chart, plots.ranking_figure),)
