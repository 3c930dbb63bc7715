"""Azure OpenAI: OpenAI's API at Azure's addresses, under Azure's keys and content filter."""

import re
from contextlib import suppress
from typing import Any, ClassVar
from urllib.parse import quote

import httpx

from servers.domain.models import Capabilities
from servers.kernel.errors import NotReady
from servers.router.adapters.http import Http, url
from servers.router.adapters.openai import request as openai_request
from servers.router.adapters.openai.answer_schema import for_objects
from servers.router.adapters.openai.compat import CHAT, OpenAICompat
from servers.router.adapters.openai.request import Words
from servers.router.ports import Ask

_OURS = re.compile(r"/openai(?=/|$).*")  # where Azure's own paths begin
_MOST = 100  # addresses that are remembered: to parse one costs more than the rest of a request
_UNDATED = ("", "v1", "preview")  # versions that the v1 API has
# Reasoning models know the newer word alone, dated versions of the API often only the older one.
_V1 = Words("max_completion_tokens", schema=for_objects, schema_beside_tools=True)
_DATED = Words(schema=for_objects, schema_beside_tools=True)


class AzureOpenAI(OpenAICompat):
    """A date as `api_version` means the classic form, none the v1 API.

    The endpoint is the resource's (https://NAME.openai.azure.com) or any address below it that
    Azure shows: what begins with /openai is put together anew, its api-version is heeded.
    """

    key_header: ClassVar = "api-key"
    encoding = "base64"

    def __init__(self, endpoint: str, http: Http, api_version: str = "") -> None:
        given = url(endpoint)
        super().__init__(endpoint, http)
        version = api_version or given.params.get("api-version", "")
        self._root = str(given.copy_with(path=_OURS.sub("", given.path), query=None)).rstrip("/")
        self._dated = version not in _UNDATED
        self._dated_urls: dict[tuple[str, str], httpx.URL] = {}  # by path and deployment
        self._query = f"?api-version={quote(version, safe='')}" if version else ""
        self._url = url(f"{self._root}/openai/v1{CHAT}{self._query}")

    async def health(self, api_key: str) -> None:
        models = "/openai/models" if self._dated else "/openai/v1/models"
        with suppress(NotReady):  # there, though it wants another key
            await self._get(self._root + models + self._query, api_key)

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities(json_schema=True)

    def _where(self, path: str, model: str) -> httpx.URL:
        """A deployment stands in the path of the classic form, and goes by the name of model."""
        if not self._dated:
            v1 = f"{self._root}/openai/v1{path}{self._query}"
            return self._url if path == CHAT else url(v1)
        known = self._dated_urls.get((path, model))
        if known is None:
            if len(self._dated_urls) >= _MOST:
                self._dated_urls.clear()
            known = self._dated_urls[path, model] = self._deployment(path, model)
        return known

    def _deployment(self, path: str, model: str) -> httpx.URL:
        if not model.strip("."):
            raise NotReady(f"no deployment is named {model!r}", reason="MODEL_NOT_FOUND")
        deployment = quote(model, safe="")
        return url(f"{self._root}/openai/deployments/{deployment}{path}{self._query}")

    def _body(self, ask: Ask, stream: bool) -> dict[str, Any]:
        return openai_request.body(ask, stream, _DATED if self._dated else _V1)
