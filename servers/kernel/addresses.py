"""Whether a text is the address of a database, and of which kind."""

from urllib.parse import urlsplit


def kind_of(url: str) -> str | None:
    """ "redis" or "postgres"; None for what is neither."""
    if redis_address(url):
        return "redis"
    return "postgres" if postgres_address(url) else None


def redis_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("redis", "rediss") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        return False


def postgres_address(dsn: str) -> bool:
    try:
        parts = urlsplit(dsn)
        hosts = parts.netloc.rpartition("@")[2].split(",")  # several, of which one is asked
        ports = [urlsplit(f"//{host}").port for host in hosts]
        return parts.scheme in ("postgresql", "postgres") and 0 not in ports
    except ValueError:  # a port that is none
        return False
