"""A graph as an SVG picture: no scripts, no links, nothing that is fetched.

Labels come from strangers and are escaped. Text is set in a font of one width, so that it is
known how much room it takes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from servers.agents.graphs.layout import Place, places
from servers.agents.graphs.words import cells, remark, shortened, title
from servers.domain.graphs import Edge, Node

_CELL, _SMALL = 7.3, 6.1  # width of a character of the title, and of what is below it
_PAD, _GAP, _MARGIN = 12, 56, 16
_HEIGHT, _ROW, _LANE = 40, 52, 22
_STYLE = (
    "text{font-family:ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#1f2933}"
    ".t{font-size:12px}.r{font-size:10px;fill:#52606d}.p{fill:#b71c1c}"
    ".e{fill:none;stroke:#9aa5b1}.l{font-size:10px;fill:#52606d;text-anchor:middle;"
    "paint-order:stroke;stroke:#fff;stroke-width:3px}"
    "rect{fill:#f5f7fa;stroke:#9aa5b1}"
    ".agent,.run{fill:#e3f2fd;stroke:#1976d2}.model,.model_call{fill:#ede7f6;stroke:#7e57c2}"
    ".tool,.tool_call{fill:#e8f5e9;stroke:#43a047}.wait,.guard{fill:#fff8e1;stroke:#f9a825}"
    ".stage,.step,.branch,.handoff{fill:#fbe9e7;stroke:#ff7043}.more{fill:#fff}"
    ".bad{stroke:#c62828;stroke-width:2}.bg{fill:#fff;stroke:none}"
)
_BAD = frozenset({"error", "failed", "timeout", "timed_out", "blocked", "cut_off"})


@dataclass(frozen=True, slots=True)
class _Box:
    x: float
    y: float
    width: float
    gap: float  # before it, where no box is

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def middle(self) -> float:
        return self.y + _HEIGHT / 2

    @property
    def bottom(self) -> float:
        return self.y + _HEIGHT


def svg(nodes: Sequence[Node], edges: Sequence[Edge]) -> str:
    where = places([node.id for node in nodes], edges)
    boxes = _boxes(nodes, edges, where)
    width = max((box.right for box in boxes.values()), default=0.0) + _MARGIN
    floor = max((box.bottom for box in boxes.values()), default=0.0)
    lines = [(edge.label, boxes[edge.source], boxes[edge.target]) for edge in edges]
    ahead = [line for line in lines if line[2].x > line[1].right]
    back = [line for line in lines if line[2].x <= line[1].right]
    lanes = [floor + (n + 1) * _LANE for n in range(len(back))]
    height = floor + _MARGIN + len(back) * _LANE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
        f"<style>{_STYLE}</style>",
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto-start-reverse"><path d="M0 0L8 4L0 8z" '
        'fill="#9aa5b1"/></marker></defs>',
        f'<rect class="bg" width="{width:.0f}" height="{height:.0f}"/>',
        *(_ahead(source, target) for _, source, target in ahead),
        *(
            _back(source, target, lane)
            for (_, source, target), lane in zip(back, lanes, strict=True)
        ),
        *(_node(node, boxes[node.id]) for node in nodes),
        *(_said(label, *_on_curve(source, target)) for label, source, target in ahead),
        *(
            _said(label, (source.x + target.right) / 2, lane)
            for (label, source, target), lane in zip(back, lanes, strict=True)
        ),
        "</svg>",
    ]
    return "\n".join(filter(None, parts)) + "\n"


def _boxes(
    nodes: Sequence[Node], edges: Sequence[Edge], where: Mapping[str, Place]
) -> dict[str, _Box]:
    columns = max((place.column for place in where.values()), default=0) + 1
    widths, gaps = [0.0] * columns, [float(_GAP)] * columns  # a gap is before its column
    for node in nodes:
        column = where[node.id].column
        widths[column] = max(widths[column], _width(node))
    for edge in edges:
        column = where[edge.target].column
        gaps[column] = max(gaps[column], cells(shortened(edge.label)) * _SMALL + 30)
    gaps[0] = _MARGIN
    lefts = [sum(widths[:n]) + sum(gaps[: n + 1]) for n in range(columns)]
    boxes = {}
    for node in nodes:
        place = where[node.id]
        left, gap = lefts[place.column], gaps[place.column]
        boxes[node.id] = _Box(left, _MARGIN + place.row * _ROW, _width(node), gap)
    return boxes


def _width(node: Node) -> float:
    longest = max(cells(title(node)) * _CELL, cells(_below(node)) * _SMALL)
    return longest + 2 * _PAD


def _below(node: Node) -> str:
    return shortened(node.problem) if node.problem else remark(node)


def _node(node: Node, box: _Box) -> str:
    bad = " bad" if node.problem or node.state in _BAD else ""
    kind = node.kind if node.kind.replace("_", "").isalpha() else ""
    x = box.x + _PAD
    below = f'class="r{" p" if node.problem else ""}"'
    hover = escape(shortened(" · ".join((node.label, remark(node), node.problem)), 300))
    return (
        f"<g><title>{hover}</title>"
        f'<rect class="{kind}{bad}" x="{box.x:.1f}" y="{box.y:.1f}" '
        f'width="{box.width:.1f}" height="{_HEIGHT}" rx="6"/>'
        f'<text class="t" x="{x:.1f}" y="{box.y + 17:.1f}">{escape(title(node))}</text>'
        f'<text {below} x="{x:.1f}" y="{box.y + 31:.1f}">{escape(_below(node))}</text></g>'
    )


def _ahead(source: _Box, target: _Box) -> str:
    x1, y1, x2, y2 = source.right, source.middle, target.x, target.middle
    bend = (x1 + x2) / 2
    path = f"M{x1:.1f} {y1:.1f}C{bend:.1f} {y1:.1f} {bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
    return f'<path class="e" marker-end="url(#a)" d="{path}"/>'


def _on_curve(source: _Box, target: _Box) -> tuple[float, float]:
    """The middle of the gap before the target, where no box can be in the way."""
    x1, x2 = source.right, target.x
    wanted, low, high = x2 - min(target.gap, x2 - x1) / 2, 0.0, 1.0
    for _ in range(12):
        t = (low + high) / 2
        x = x1 + (x2 - x1) * (1.5 * t * (1 - t) + t**3)
        low, high = (t, high) if x < wanted else (low, t)
    share = low * low * (3 - 2 * low)
    return wanted, source.middle + (target.middle - source.middle) * share


def _back(source: _Box, target: _Box, floor: float) -> str:
    """Around below everything."""
    x1, x2, turn = source.right - 20, target.x + 20, 14
    path = (
        f"M{x1:.1f} {source.bottom:.1f}V{floor - turn:.1f}Q{x1:.1f} {floor:.1f} "
        f"{x1 - turn:.1f} {floor:.1f}H{x2 + turn:.1f}Q{x2:.1f} {floor:.1f} "
        f"{x2:.1f} {floor - turn:.1f}V{target.bottom:.1f}"
    )
    return f'<path class="e" marker-end="url(#a)" d="{path}"/>'


def _said(label: str, x: float, y: float) -> str:
    if not label:
        return ""
    return f'<text class="l" x="{x:.1f}" y="{y - 4:.1f}">{escape(shortened(label))}</text>'
