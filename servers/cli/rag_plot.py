"""The share of relevant documents among the first k, over k, as a picture."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from servers.kernel.errors import InvalidInput, NotReady

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ENDINGS = (".svg", ".png")
# Told apart also by those who see few colours, and in print by their marks (Okabe and Ito, 2008).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKS = ("o", "s", "^", "D", "v", "P", "X")
_INK, _GRID = "#333333", "#DDDDDD"


def check(file: Path) -> None:
    """Raises InvalidInput where the file's name says no format, NotReady without matplotlib."""
    if file.suffix.lower() not in _ENDINGS:
        raise InvalidInput(f"{file}: the name of a plot ends in {' or '.join(_ENDINGS)}")
    if not file.absolute().parent.is_dir():
        raise InvalidInput(f"{file}: there is no such folder")
    if find_spec("matplotlib") is None:
        raise NotReady(
            "a plot needs the package matplotlib: pip install 'astromesh-grpc[plot]'",
            reason="EXTRA_MISSING",
            extra="plot",
            module="matplotlib",
        )


def write(file: Path, curves: Mapping[str, Sequence[float]], of: str) -> None:
    """`curves`: by pipeline, the values at 1, 2, ... documents. Without a window system."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "astromesh", "svg.fonttype": "path"}):
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for at, (pipeline, values) in enumerate(curves.items()):
            axes.plot(
                range(1, len(values) + 1),
                values,
                color=_COLOURS[at % len(_COLOURS)],
                marker=_MARKS[at % len(_MARKS)],
                # Where several run along the same line, those below stand out.
                markersize=5 + 2.5 * (len(curves) - 1 - at),
                linewidth=1.8 + 1.2 * (len(curves) - 1 - at),
                label=_plain(f"{pipeline} ({values[-1]:.3f})"),
                clip_on=False,
                zorder=3,
            )
        axes.set_title(f"Relevant documents among the first k, {of}", color=_INK, fontsize=11)
        _dress(axes, max(len(values) for values in curves.values()), _floor(curves))
        metadata = {"Date": None} if file.suffix.lower() == ".svg" else None
        figure.savefig(file, dpi=160, metadata=metadata)


def _dress(axes: "Axes", deepest: int, floor: float) -> None:
    axes.set_xlim(1, deepest)
    axes.set_xticks(range(1, deepest + 1))
    axes.set_ylim(floor, 1)
    axes.set_xlabel("k, documents looked at", color=_INK)
    axes.set_ylabel("recall@k", color=_INK)
    axes.grid(color=_GRID, linewidth=0.8)
    axes.tick_params(colors=_INK, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_GRID)
    axes.legend(frameon=False, loc="best", title=f"pipeline (recall@{deepest})")


def _plain(label: str) -> str:
    """Not read as a formula, nor left out of the legend."""
    return label.replace("$", r"\$").lstrip("_") or "?"


def _floor(curves: Mapping[str, Sequence[float]]) -> float:
    """Where the vertical axis begins: at 0, unless all that is to be seen is far above it."""
    lowest = min(min(values) for values in curves.values())
    return 0.5 if lowest > 0.6 else 0.0
