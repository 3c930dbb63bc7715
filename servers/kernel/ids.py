"""Names for what has none."""

import random
import time


def new_id() -> str:
    """Later ones sort later, which keeps the tables of runs in order (as UUIDv7 does)."""
    return f"{time.time_ns() // 1_000_000:012x}{random.getrandbits(80):020x}"
