"""Requests about texts, and the providers that they go to, as the tests of the router make them."""

from collections.abc import Sequence

from servers.domain.chat import ChatRequest, ModelRef, Role, says
from servers.domain.embeddings import EmbedRequest, RerankRequest
from servers.router.ports import ModelSettings, ProviderSettings

FEW = ("A cat sat on the mat.", "Interest rates rose again.", "Grüße aus 漢字 🦊")
QUERY = "Where does the cat sit?"


def embed(*providers: str, texts: Sequence[str] = FEW, **more) -> EmbedRequest:
    return EmbedRequest(tuple(texts), tuple(ModelRef(each, "m") for each in providers), **more)


def rerank(*providers: str, documents: Sequence[str] = FEW, **more) -> RerankRequest:
    candidates = tuple(ModelRef(each, "m") for each in providers)
    return RerankRequest(QUERY, tuple(documents), candidates, **more)


def chat(*providers: str) -> ChatRequest:
    candidates = tuple(ModelRef(each, "m") for each in providers)
    return ChatRequest((says(Role.USER, "hello"),), candidates)


def of_kind(name: str, endpoint: str, kind: str = "tei", **more) -> ProviderSettings:
    return ProviderSettings(name, kind, endpoint, models=(ModelSettings("m", **more),))


def declares(name: str, endpoint: str, **more) -> ProviderSettings:
    """A provider whose one model is described."""
    return ProviderSettings(name, "openai_compat", endpoint, models=(ModelSettings("m", **more),))
