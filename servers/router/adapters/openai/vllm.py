"""vLLM: OpenAI's API with guided answers and more ways to sample."""

from typing import Any, ClassVar

from servers.domain.models import Capabilities
from servers.router.adapters.http import Http, url
from servers.router.adapters.openai import request as openai_request
from servers.router.adapters.openai.own_server import OwnServer, found
from servers.router.adapters.openai.request import Words
from servers.router.adapters.texts import ranking as ranking_wire
from servers.router.ports import Ask, RerankAsk, Reranked

# What guided answers were asked for with until vLLM 0.12, which ignores these without a word.
_GUIDED = {
    "guided_json": "json",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
    "guided_json_object": "json_object",
    "guided_whitespace_pattern": "whitespace_pattern",
}
_SHAPES = frozenset({"response_format", "structured_outputs", *_GUIDED})


class Vllm(OwnServer):
    """Takes top_k, min_p and repetition_penalty by these names."""

    encoding = "base64"
    words: ClassVar = Words(thoughts="reasoning", shapes=_SHAPES)
    about: ClassVar = "/v1/models"

    def __init__(self, endpoint: str, http: Http) -> None:
        super().__init__(endpoint, http)
        self._windows: dict[str, int] = {}  # by model

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities(json_schema=True, context_window=self._windows.get(model))

    async def count_tokens(self, ask: Ask) -> int:
        body = openai_request.body(ask, False, self.words)
        asked = {key: body[key] for key in ("model", "messages", "tools") if key in body}
        return int(found(*await self._told("/tokenize", ask, asked), "count"))

    async def rerank(self, ask: RerankAsk) -> Reranked:
        where = url(self._root + "/v1/rerank")
        return await ranking_wire.rerank(self._http, ask, where, self.endpoint)

    def _body(self, ask: Ask, stream: bool) -> dict[str, Any]:
        body = openai_request.body(ask, stream, self.words)
        guided = {new: body.pop(old) for old, new in _GUIDED.items() if old in body}
        if guided:
            body["structured_outputs"] = guided | dict(body.get("structured_outputs") or {})
        return body

    def _learn(self, told: Any) -> None:
        sizes = {each["id"]: each.get("max_model_len") for each in told["data"]}
        self._windows = {model: int(size) for model, size in sizes.items() if size}
