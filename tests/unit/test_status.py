"""Errors cross the wire and come back as what they were."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from servers.kernel import errors
from servers.kernel.errors import AstromeshError, Violation
from servers.kernel.status import (
    CODES,
    StatusInterceptor,
    caller_from,
    deadline_from,
    domain_errors,
    from_status,
    to_status,
)
from tests.patience import PATIENCE

KINDS = AstromeshError.__subclasses__()
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
names = st.from_regex(r"[a-z]{1,12}", fullmatch=True).filter(
    lambda name: name not in {"message", "reason", "violations"}
)


def details_of(error: AstromeshError, kind: Any) -> list[Any]:
    found = []
    for packed in to_status(error).details:
        detail = kind()
        if packed.Unpack(detail):
            found.append(detail)
    return found


class TestTheTable:
    def test_knows_every_error(self):
        assert set(CODES) == set(KINDS)

    @given(
        kind=st.sampled_from(KINDS),
        message=words,
        reason=st.from_regex(r"[A-Z][A-Z_]{0,30}", fullmatch=True),
        retry_after=st.none() | st.integers(0, 10**6).map(lambda ms: ms / 1000),
        violations=st.lists(st.builds(Violation, words, words), max_size=5).map(tuple),
        facts=st.dictionaries(names, words, max_size=4),
    )
    def test_leads_there_and_back(self, kind, message, reason, retry_after, violations, facts):
        error = kind(
            message, reason=reason, retry_after=retry_after, violations=violations, **facts
        )
        back = from_status(to_status(error))
        assert (type(back), back.message, back.reason) == (kind, message, reason)
        assert (back.retry_after, back.violations, back.facts) == (retry_after, violations, facts)

    def test_a_subclass_travels_as_the_class_it_refines(self):
        class AgentBroken(errors.NotReady):
            pass

        assert type(from_status(to_status(AgentBroken("no")))) is errors.NotReady

    def test_keeps_apart_what_shares_a_code(self):
        assert to_status(errors.Conflict("a")).code == to_status(errors.Interrupted("b")).code
        assert type(from_status(to_status(errors.Interrupted("b")))) is errors.Interrupted


class TestDetails:
    def test_name_the_reason_and_our_domain(self):
        (info,) = details_of(errors.NotFound("no agent", agent="x"), error_details_pb2.ErrorInfo)
        assert (info.reason, info.domain, dict(info.metadata)) == (
            "NOT_FOUND",
            "astromesh",
            {"agent": "x"},
        )

    def test_tell_when_to_retry(self):
        (retry,) = details_of(
            errors.Unavailable("busy", retry_after=1.5), error_details_pb2.RetryInfo
        )
        assert retry.retry_delay.ToMilliseconds() == 1500

    @pytest.mark.parametrize(
        ("kind", "detail"),
        [
            (errors.InvalidInput, error_details_pb2.BadRequest),
            (errors.Exhausted, error_details_pb2.QuotaFailure),
            (errors.NotReady, error_details_pb2.PreconditionFailure),
        ],
    )
    def test_list_violations_in_the_form_that_suits_the_error(self, kind, detail):
        error = kind("wrong", violations=(Violation("spec.model", "is missing"),))
        assert len(details_of(error, detail)) == 1

    def test_fit_into_the_trailers_whatever_is_reported(self):
        error = errors.InvalidInput(
            "€" * 10_000,
            violations=tuple(Violation(f"spec.f{i}", "is missing " * 9) for i in range(1000)),
            agent="x" * 10_000,
        )
        assert to_status(error).ByteSize() < 6000

    def test_of_others_are_not_taken_for_ours(self):
        status = status_pb2.Status(code=5, message="gone")
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason="X", domain="other.example"))
        assert from_status(status) is None


@asynccontextmanager
async def serving(**methods: Any) -> AsyncIterator[grpc.aio.Channel]:
    """A server of one service, "test.Test", with the given methods."""

    def parse(raw: bytes) -> StringValue:
        return StringValue.FromString(raw)

    handlers = {
        name: (
            grpc.unary_stream_rpc_method_handler
            if name.startswith("Stream")
            else grpc.stream_unary_rpc_method_handler
            if name.startswith("Collect")
            else grpc.unary_unary_rpc_method_handler
        )(method, parse, lambda message: message.SerializeToString())
        for name, method in methods.items()
    }
    server = grpc.aio.server(interceptors=[StatusInterceptor(new_id=lambda: "e-1")])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Test", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


def unary(channel: grpc.aio.Channel, name: str) -> Any:
    return channel.unary_unary(
        f"/test.Test/{name}", lambda message: message.SerializeToString(), Empty.FromString
    )


def streaming(channel: grpc.aio.Channel, name: str) -> Any:
    return channel.unary_stream(
        f"/test.Test/{name}", lambda message: message.SerializeToString(), StringValue.FromString
    )


class TestAServer:
    async def test_sends_what_a_method_raises(self):
        async def Fail(request, context):
            raise errors.NotFound("no agent is named 'x'", agent="x")

        async with serving(Fail=Fail) as channel:
            with pytest.raises(errors.NotFound, match="'x'") as caught, domain_errors():
                await unary(channel, "Fail")(StringValue())
        assert caught.value.facts == {"agent": "x"}

    async def test_sends_what_a_stream_raises_after_what_it_said(self):
        async def StreamFail(request, context):
            yield StringValue(value="first")
            raise errors.Interrupted("broken")

        async with serving(StreamFail=StreamFail) as channel:
            call = streaming(channel, "StreamFail")(StringValue())
            assert (await call.read()).value == "first"
            with pytest.raises(errors.Interrupted), domain_errors():
                await call.read()

    async def test_tells_nothing_of_a_bug_but_where_to_look(self):
        async def Fail(request, context):
            raise KeyError("the password")

        async with serving(Fail=Fail) as channel:
            with pytest.raises(AstromeshError) as caught, domain_errors():
                await unary(channel, "Fail")(StringValue())
        assert (caught.value.reason, caught.value.facts) == ("INTERNAL", {"error_id": "e-1"})
        assert "password" not in caught.value.message

    async def test_refuses_a_request_that_is_no_message(self):
        async def Echo(request, context):
            return Empty()

        async with serving(Echo=Echo) as channel:
            raw = channel.unary_unary("/test.Test/Echo")
            with pytest.raises(errors.InvalidInput) as caught, domain_errors():
                await raw(b"\xff\xff\xff")
            assert await raw(b"") == b""  # the next call works
        assert caught.value.reason == "MALFORMED_MESSAGE"

    async def test_refuses_a_malformed_message_within_a_stream_of_them(self):
        async def Collect(requests, context):
            async for _ in requests:
                pass
            return Empty()

        async with serving(Collect=Collect) as channel:
            raw = channel.stream_unary("/test.Test/Collect")
            with pytest.raises(errors.InvalidInput), domain_errors():
                await raw(iter([b"\xff\xff\xff"]))

    async def test_closes_a_stream_whose_caller_left(self):
        closed = asyncio.Event()

        async def StreamOn(request, context):
            try:
                while True:
                    yield StringValue(value="x" * 100_000)
            finally:
                closed.set()

        async with serving(StreamOn=StreamOn) as channel:
            call = streaming(channel, "StreamOn")(StringValue())
            await call.read()
            call.cancel()
            await asyncio.wait_for(closed.wait(), PATIENCE)

    async def test_knows_who_calls_and_how_long_it_may_take(self):
        heard: list[Any] = []

        async def Ask(request, context):
            heard.extend([caller_from(context), deadline_from(context)])
            return Empty()

        async with serving(Ask=Ask) as channel:
            metadata = (("x-astromesh-tenant", "acme"), ("x-astromesh-principal", "ann"))
            await unary(channel, "Ask")(StringValue(), metadata=metadata)
            await unary(channel, "Ask")(StringValue(), timeout=9)
        assert (heard[0].tenant, heard[0].principal, heard[1]) == ("acme", "ann", None)
        assert heard[2].tenant == "default"
        assert heard[3] == pytest.approx(9, abs=5)


class TestACaller:
    async def test_of_nobody_gets_unavailable(self):
        async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
            with pytest.raises(errors.Unavailable), domain_errors():
                await unary(channel, "Any")(StringValue())

    async def test_that_waited_long_enough_is_out_of_time(self):
        async def Sleep(request, context):
            await asyncio.Event().wait()

        async with serving(Sleep=Sleep) as channel:
            with pytest.raises(errors.OutOfTime), domain_errors():
                await unary(channel, "Sleep")(StringValue(), timeout=0.05)

    async def test_of_an_unknown_method_learns_so(self):
        async with serving() as channel:
            with pytest.raises(errors.NotReady) as caught, domain_errors():
                await unary(channel, "Nothing")(StringValue())
        assert caught.value.reason == "UNIMPLEMENTED"
