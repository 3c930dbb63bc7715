"""Reads a page of the web for a model, which may ask for any address at all."""

import httpx

from servers.kernel.errors import InvalidInput, Unavailable
from servers.tools.declare import tool

MAX_BYTES = 200_000
_ERROR_CHARACTERS = 500  # how much of an error page is shown


class HttpGet:
    """`client` must be guarded (`servers.kernel.netguard`) and belongs to the caller."""

    def __init__(self, client: httpx.AsyncClient, max_bytes: int = MAX_BYTES) -> None:
        self._client = client
        self._max_bytes = max_bytes

    @tool(idempotent=True, timeout=20.0)
    async def http_get(self, url: str) -> str:
        """Fetch a text or JSON document from the web with an HTTP GET request.

        Only public http and https addresses can be reached. Long documents are cut.

        Args:
            url: the address, for example https://example.org/data.json
        """
        if not url.lower().startswith(("http://", "https://")):
            raise InvalidInput(f"{url!r} is no usable address: it needs http:// or https://")
        try:
            # Packed content is not asked for: a few bytes could unpack to gigabytes.
            async with self._client.stream(
                "GET",
                url,
                follow_redirects=True,
                headers={"Accept": "text/*, application/json", "Accept-Encoding": "identity"},
            ) as response:
                return await self._read(response)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise InvalidInput(f"{url!r} is no usable address: {error}") from None
        except httpx.TooManyRedirects:
            raise Unavailable(f"{url!r} redirects too often") from None
        except httpx.HTTPError as error:
            what = str(error) or type(error).__name__
            raise Unavailable(f"{url!r} can't be fetched: {what}") from None

    async def _read(self, response: httpx.Response) -> str:
        media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.is_success and not _readable(media_type):
            raise InvalidInput(f"{str(response.url)!r} is {media_type!r}, not text or JSON")
        if packing := response.headers.get("content-encoding", "").replace("identity", ""):
            raise Unavailable(f"{str(response.url)!r} was sent packed as {packing!r}, unasked")
        body, more = await self._start_of(response)
        text = _decoded(body, response.charset_encoding)
        if not response.is_success:
            shown = text[:_ERROR_CHARACTERS] if _readable(media_type) else ""
            raise Unavailable(
                f"{str(response.url)!r} answered HTTP {response.status_code} "
                f"{response.reason_phrase}: {shown}".rstrip(": ")
            )
        return text + (f"\n[... cut after {self._max_bytes} bytes]" if more else "")

    async def _start_of(self, response: httpx.Response) -> tuple[bytes, bool]:
        """The first bytes of the body, and whether there are more."""
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > self._max_bytes:
                return bytes(body[: self._max_bytes]), True
        return bytes(body), False


def _readable(media_type: str) -> bool:
    return (
        media_type.startswith("text/")
        or media_type == "application/json"
        or media_type.endswith("+json")
    )


def _decoded(body: bytes, charset: str | None) -> str:
    try:
        return body.decode(charset or "utf-8", errors="replace")
    except LookupError:  # a charset nobody knows
        return body.decode("utf-8", errors="replace")
