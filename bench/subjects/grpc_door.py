"""Our router as others reach it: RouterService.Complete of a started mesh."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from astromesh.common.v1 import chat_pb2
from astromesh.router.v1 import candidate_pb2
from astromesh.router.v1 import completion_pb2 as pb

from bench import grpc_connection
from bench.callers import Ask
from bench.instant_model import answer_to
from bench.subjects import SYSTEM, Asking, Setup

_METHOD = "/astromesh.router.v1.RouterService/Complete"
_CONNECTIONS = 4


@asynccontextmanager
async def opened(setup: Setup) -> AsyncIterator[Asking]:
    opened = [await grpc_connection.connect(setup.door, _METHOD) for _ in range(_CONNECTIONS)]
    connections = itertools.cycle(opened)
    request = _request(setup)

    def asking(stream: bool) -> Ask:
        if stream:
            raise ValueError("only whole answers are asked for over gRPC")

        async def ask(question: str) -> str:
            request.messages[1].text = question
            try:
                answer = await next(connections).unary(request.SerializeToString())
            except grpc_connection.CallFailed as failed:
                return str(failed)
            said = pb.CompleteResponse.FromString(answer).message.text
            return "" if said == answer_to(question) else said or "nothing"

        return ask

    yield asking
    for connection in opened:
        connection.close()


def _request(setup: Setup) -> pb.CompleteRequest:
    endpoint = f"http://127.0.0.1:{setup.primary}/v1"
    candidate = candidate_pb2.ModelCandidate(
        provider="openai_compat", model="instant", endpoint=endpoint, api_key="not-needed"
    )
    said = [
        chat_pb2.Message(role=role, text=text)
        for role, text in ((chat_pb2.ROLE_SYSTEM, SYSTEM), (chat_pb2.ROLE_USER, "?"))
    ]
    return pb.CompleteRequest(candidates=[candidate], messages=said)
