"""Optional packages, asked for where they are used: a list of models must work without them."""

from importlib.util import find_spec

from servers.kernel.errors import NotReady
from servers.kernel.registry import DISTRIBUTION


def require(what: str, extra: str, *packages: str) -> None:
    """Raises NotReady that names what to install. Imports nothing."""
    for package in packages:
        if find_spec(package) is None:
            raise NotReady(
                f"{what} needs the package {package!r}: pip install '{DISTRIBUTION}[{extra}]' "
                f"(or: uv sync --extra {extra})",
                reason="EXTRA_MISSING",
                extra=extra,
                module=package,
            )
