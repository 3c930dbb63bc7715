"""Where vectors are kept."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Collection:
    """Where a collection is kept."""

    name: str
    folder: Path  # for what works in this process
    address: str = field(default="", repr=False)  # of a server; it may hold a password
    api_key: str = field(default="", repr=False)

    def at(self, server: str) -> str:
        """Where, for messages: nothing of who."""
        if not self.address:
            return server
        scheme, _, rest = self.address.rpartition("://")
        host = rest.partition("/")[0].partition("?")[0].rpartition("@")[2]
        return f"{server} at {scheme or 'http'}://{host}"
