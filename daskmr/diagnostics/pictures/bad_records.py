"""Bad records by reason."""

from __future__ import annotations

from daskmr.diagnostics.plotting.base import STRAGGLER, Chart, Picture, RunView
from daskmr.diagnostics.plotting.ranking import MAX_ROWS, ranking_chart, ranking_figure

__all__ = ["PICTURES"]


def _chart(run: RunView) -> Chart | None:
    shown = sorted(run.bad_reasons.items(), key=lambda item: (-item[1], item[0]))
    if not shown:
        return None
    if len(shown) > MAX_ROWS:
        shown, others = shown[: MAX_ROWS - 1], shown[MAX_ROWS - 1 :]
        shown.append((f"{len(others):,} other reasons", sum(count for _, count in others)))
    return ranking_chart(
        [reason for reason, _ in shown],
        [float(count) for _, count in shown],
        [f"{count:,}" for _, count in shown],
        STRAGGLER,
        f"{sum(run.bad_reasons.values()):,} in all",
    )


PICTURES = (
    Picture(
        name="bad-records",
        title="By reason",
        section="Bad records",
        position=40,
        chart=_chart,
        figure=ranking_figure,
    ),
)
