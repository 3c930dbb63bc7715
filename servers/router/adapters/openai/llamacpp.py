"""llama.cpp's server: OpenAI's API, with grammars and its own ways to sample."""

from typing import Any, ClassVar

from servers.domain.chat import Image
from servers.domain.models import Capabilities
from servers.kernel.errors import InvalidInput, NotReady
from servers.router.adapters.http import Http, url
from servers.router.adapters.openai import request as openai_request
from servers.router.adapters.openai.own_server import OwnServer, found
from servers.router.adapters.openai.request import Words
from servers.router.adapters.texts import ranking as ranking_wire
from servers.router.ports import Ask, RerankAsk, Reranked

_COUNT = "/v1/chat/completions/input_tokens"


class LlamaCpp(OwnServer):
    """One model, whatever it is called. Takes top_k and min_p by these names."""

    words: ClassVar = Words(shapes=frozenset({"response_format", "json_schema", "grammar"}))
    about: ClassVar = "/props"

    def __init__(self, endpoint: str, http: Http) -> None:
        super().__init__(endpoint, http)
        self._able = Capabilities(json_schema=True)

    def capabilities(self, model: str) -> Capabilities:
        return self._able

    async def count_tokens(self, ask: Ask) -> int:
        body = openai_request.body(ask, False, self.words)
        try:
            return int(found(*await self._told(_COUNT, ask, body), "input_tokens"))
        except NotReady as unknown:
            if unknown.reason != "MODEL_NOT_FOUND":
                raise
        # Servers before 2026 have no such path.
        if any(isinstance(part, Image) for said in ask.messages for part in said.parts):
            raise InvalidInput(f"{self.endpoint} counts no pictures: ask without, or update it")
        prompt = found(*await self._told("/apply-template", ask, body), "prompt")
        asked = {"content": prompt, "add_special": True, "parse_special": True}
        return len(found(*await self._told("/tokenize", ask, asked), "tokens"))

    async def rerank(self, ask: RerankAsk) -> Reranked:
        where = url(self._root + "/v1/rerank")
        return await ranking_wire.rerank(self._http, ask, where, self.endpoint)

    def _body(self, ask: Ask, stream: bool) -> dict[str, Any]:
        body = openai_request.body(ask, stream, self.words)
        if (penalty := body.pop("repetition_penalty", None)) is not None:
            body.setdefault("repeat_penalty", penalty)
        return body

    def _learn(self, told: Any) -> None:
        """Of a chat template without a place for tools nothing better can be made than
        constrained JSON."""
        tools = (told.get("chat_template_caps") or {}).get("supports_tools")
        self._able = Capabilities(
            tools=tools,
            vision=(told.get("modalities") or {}).get("vision"),
            json_schema=True,
            context_window=told["default_generation_settings"]["n_ctx"] or None,
            emulated_tools=tools is False,
        )
