"""Hugging Face's Text Generation Inference: OpenAI's chats with grammars of its own form."""

from typing import Any, ClassVar

from servers.domain.chat import Json
from servers.domain.models import Capabilities
from servers.kernel.errors import InvalidInput
from servers.router.adapters.http import Http
from servers.router.adapters.openai import request as openai_request
from servers.router.adapters.openai.own_server import OwnServer, found
from servers.router.adapters.openai.request import Words
from servers.router.ports import Ask

_UNKNOWN = ("top_k", "min_p")  # to its chats, which would ignore them


def _grammar(schema: Json) -> dict[str, Any]:
    return {"response_format": {"type": "json", "value": schema}}


class HfTgi(OwnServer):
    """One model, whatever it is called, unless the name is that of a LoRA adapter."""

    words: ClassVar = Words(thoughts="", schema=_grammar)
    about: ClassVar = "/info"

    def __init__(self, endpoint: str, http: Http) -> None:
        super().__init__(endpoint, http)
        self._window: int | None = None

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities(json_schema=True, context_window=self._window)

    async def count_tokens(self, ask: Ask) -> int:
        body = openai_request.body(ask, False, self.words)
        return len(found(*await self._told("/chat_tokenize", ask, body), "tokenize_response"))

    def _body(self, ask: Ask, stream: bool) -> dict[str, Any]:
        body = openai_request.body(ask, stream, self.words)
        if unknown := [name for name in _UNKNOWN if name in body]:
            raise InvalidInput(
                f"the chats of {self.endpoint} (hf_tgi) have no {', no '.join(unknown)}: "
                "leave it out",
                reason="NOT_SUPPORTED",
            )
        if body.get("top_p") == 1:  # refused, though it means nothing
            del body["top_p"]
        if (penalty := body.pop("repetition_penalty", None)) is not None:
            # Its chats take it by the name of OpenAI's presence_penalty, and add 2 to that.
            body.setdefault("presence_penalty", round(penalty - 2, 6))
        if "response_format" in body:
            body["response_format"] = _own_form(body["response_format"])
        return body

    def _learn(self, told: Any) -> None:
        self._window = int(told["max_total_tokens"])


def _own_form(wanted: Any) -> Any:
    """OpenAI's response_format in TGI's words; its own pass."""
    if isinstance(wanted, dict) and isinstance(named := wanted.get("json_schema"), dict):
        return {"type": "json", "value": named.get("schema")}
    return wanted
