"""Models on Triton, by KServe's gRPC protocol: chats by stream, vectors and scores by batch."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, ClassVar

from servers.domain.chat import Completion, Finish, Message, Role, Step, Text, TextPiece
from servers.domain.models import Capabilities
from servers.router.adapters.failures import garbage
from servers.router.adapters.patience import Patience
from servers.router.adapters.texts.batches import Batch, answers, batches, joined
from servers.router.adapters.triton import chat, rows
from servers.router.adapters.triton.calls import Calls, Infer
from servers.router.adapters.triton.chat_template import ChatTemplate
from servers.router.adapters.triton.link import Tls
from servers.router.adapters.triton.models import NUMBERS, TEXT, Model
from servers.router.adapters.triton.tensors import text
from servers.router.ports import Ask, EmbedAsk, Embedded, RerankAsk, Reranked

_PROBE = 5.0  # seconds
_MOST_NAMED = 64  # models that are looked after by `health`; their names may come from requests
_MOST_CHARACTERS = 4 << 20  # in one request


class Triton:
    """`input` and the other names of tensors are needed only where a model has several."""

    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        endpoint: str,
        *,
        input: str = "",
        output: str = "",
        query_input: str = "",
        document_input: str = "",
        chat_template: str = "",
        bos_token: str = "",
        eos_token: str = "",
        ca_file: str = "",
        cert_file: str = "",
        key_file: str = "",
    ) -> None:
        self.endpoint = endpoint
        self._input, self._output = input, output
        self._query, self._document = query_input, document_input
        self._template = ChatTemplate(chat_template, bos_token, eos_token)
        self._calls = Calls(endpoint, Tls(ca_file, cert_file, key_file))
        self._named: set[str] = set()

    async def complete(self, ask: Ask) -> Completion:
        said: list[str] = []
        async with aclosing(self._answer(ask, whole=True)) as steps:
            async for step in steps:
                if isinstance(step, TextPiece):
                    said.append(step.text)
                elif isinstance(step, Finish):
                    parts = (Text("".join(said)),) if said else ()
                    return Completion(Message(Role.ASSISTANT, parts), step)
        raise AssertionError("an answer ends with Finish or raises")

    def stream(self, ask: Ask) -> AsyncGenerator[Step, None]:
        return self._answer(ask, whole=False)

    async def embed(self, ask: EmbedAsk) -> Embedded:
        model = await self._model(ask, once=True)
        into = model.input(self._input)

        async def send(part: Batch) -> Embedded:
            inputs = [text(model, into, part.texts)]
            answer = await self._infer(model, inputs, ask)
            return rows.embedded(answer, part.texts)

        parts = batches(ask.texts, model.most_rows(into), _MOST_CHARACTERS)
        return joined(await answers(parts, send, self.endpoint, ask.timeouts))

    async def rerank(self, ask: RerankAsk) -> Reranked:
        model = await self._model(ask, once=True)
        query, document = model.pair(self._query, self._document)

        async def send(part: Batch) -> Reranked:
            queries = [ask.query] * len(part.texts)
            inputs = [text(model, query, queries), text(model, document, part.texts)]
            answer = await self._infer(model, inputs, ask)
            return rows.reranked(answer, ask.query, part.texts)

        parts = batches(ask.documents, model.most_rows(query, document), _MOST_CHARACTERS)
        return rows.all_of(await answers(parts, send, self.endpoint, ask.timeouts))

    async def health(self, api_key: str) -> None:
        """Whether the server is ready, and every model on it that the mesh has named."""
        await self._calls.ready(sorted(self._named), _PROBE, api_key)

    def capabilities(self, model: str) -> Capabilities:
        self._name(model)
        known = self._calls.models.get(model)
        streaming = known is None or known.decoupled
        return Capabilities(tools=False, vision=False, json_schema=False, streaming=streaming)

    async def aclose(self) -> None:
        await self._calls.aclose()

    async def _answer(self, ask: Ask, whole: bool) -> AsyncGenerator[Step, None]:
        chat.check(ask)
        model = await self._model(ask)
        into = model.input(self._input, chat.INPUT)
        output = model.output(self._output, TEXT, chat.OUTPUT)
        besides = chat.besides(model)
        said, patience = chat.Said(ask, output.name, besides), Patience(ask.timeouts)
        inputs = chat.inputs(model, into, self._template.render(ask.messages), ask, not whole)
        asked = Infer(model.name, inputs, (output.name, *besides), ask.api_key)
        async with aclosing(self._calls.stream(asked, patience, whole)) as parts:
            async for part in parts:
                patience.progressed()
                for piece in said.take(part):
                    yield piece
                if said.stops.met:
                    break
        for piece in said.rest():
            yield piece
        if not said.whole:
            raise garbage(self.endpoint, "ended its answer before the end")
        yield said.finish()

    async def _infer(
        self, model: Model, inputs: Sequence[Any], ask: EmbedAsk | RerankAsk
    ) -> rows.Answer:
        output = model.output(self._output, NUMBERS)
        outputs = (output.name, *rows.counts(model))
        asked = Infer(model.name, inputs, outputs, ask.api_key)
        answer = await self._calls.infer(asked, Patience(ask.timeouts))
        return rows.Answer(model.name, output.name, self.endpoint, answer)

    async def _model(self, ask: Ask | EmbedAsk | RerankAsk, once: bool = False) -> Model:
        self._name(ask.model)
        model = await self._calls.model(ask.model, ask.timeouts, ask.api_key)
        if once:
            model.check_answers_once()
        return model

    def _name(self, model: str) -> None:
        if len(self._named) < _MOST_NAMED:
            self._named.add(model)
