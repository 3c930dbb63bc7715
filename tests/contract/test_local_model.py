"""The embedded model is a provider like any other. Here the real one answers."""

import asyncio
import json
import os
import signal
import sys
from contextlib import aclosing
from pathlib import Path

import pytest
import pytest_asyncio

from servers.domain.chat import FinishReason, Role, Sampling, TextPiece, says
from servers.kernel.errors import DataLost, NotReady
from servers.router.adapters.http import open_http
from servers.router.adapters.local import model_file
from servers.router.adapters.local.process import MODEL, LocalModel, open_local_model
from servers.router.adapters.local.provider import Local
from servers.router.adapters.openai.llamacpp import LlamaCpp
from servers.router.ports import Ask, ProviderDown
from tests.patience import PATIENCE

pytestmark = [pytest.mark.local_model, pytest.mark.asyncio(loop_scope="module")]

SHORT = Sampling(temperature=0, max_tokens=8)


def ask(text: str = "Say hello.", **more) -> Ask:
    return Ask(**{"model": MODEL, "messages": (says(Role.USER, text),), "sampling": SHORT, **more})


# One for all: it takes seconds to load.
@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model(tmp_path_factory):
    async with open_local_model(tmp_path_factory.mktemp("model")) as model:
        yield model


@pytest_asyncio.fixture(loop_scope="module")
async def local(model: LocalModel):
    async with open_http() as http:
        yield Local("local:", http, model)


async def test_it_answers(local):
    completion = await local.complete(ask())
    assert completion.message.text
    assert completion.finish.reason is FinishReason.LENGTH
    assert completion.finish.usage.completion_tokens == 8


async def test_it_streams_what_it_also_answers_whole(local):
    steps = [step async for step in local.stream(ask())]
    pieces = [step.text for step in steps if isinstance(step, TextPiece)]
    assert len(pieces) > 1
    assert "".join(pieces) == (await local.complete(ask())).message.text


async def test_it_keeps_to_a_json_schema(local):
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["age"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    sampling = Sampling(temperature=0, max_tokens=40, extra={"response_format": wanted})
    completion = await local.complete(ask("How old is the cat?", sampling=sampling))
    assert set(json.loads(completion.message.text)) == {"age"}


async def test_it_counts_a_prompt_as_its_chats_do(local):
    completion = await local.complete(ask())
    assert await local.count_tokens(ask()) == completion.finish.usage.prompt_tokens


async def test_it_may_be_asked_for_constrained_json_in_place_of_tools(local):
    able = local.capabilities(MODEL)
    assert (able.tools, able.emulated_tools, able.json_schema) == (False, True, True)


class TestItsServer:
    """The real llama.cpp, as one would reach it anywhere."""

    @pytest_asyncio.fixture(loop_scope="module")
    async def provider(self, model):
        address = await model.ready(PATIENCE)
        async with open_http() as http:
            yield LlamaCpp(address.endpoint, http), address.api_key

    async def test_tells_of_its_model(self, provider):
        llamacpp, key = provider
        await llamacpp.health(key)
        able = llamacpp.capabilities(MODEL)
        assert (able.context_window, able.vision) == (4096, False)
        assert (able.tools, able.emulated_tools) == (False, True)

    async def test_is_well_though_it_wants_another_key(self, provider):
        llamacpp, _ = provider
        await llamacpp.health("wrong")
        assert llamacpp.capabilities(MODEL).context_window is None

    async def test_counts_a_prompt_as_its_chats_do(self, provider):
        llamacpp, key = provider
        completion = await llamacpp.complete(ask(api_key=key))
        counted = await llamacpp.count_tokens(ask(api_key=key))
        assert counted == completion.finish.usage.prompt_tokens

    async def test_keeps_to_a_schema(self, provider):
        llamacpp, key = provider
        schema = {"type": "array", "items": {"enum": [1, 2]}, "minItems": 2, "maxItems": 2}
        completion = await llamacpp.complete(ask(api_key=key, output_schema=schema))
        assert set(json.loads(completion.message.text)) <= {1, 2}

    async def test_keeps_to_a_grammar_in_its_own_words(self, provider):
        llamacpp, key = provider
        extra = {"grammar": 'root ::= "yes" | "no"', "repetition_penalty": 1.1, "min_p": 0.1}
        steps = llamacpp.stream(ask(api_key=key, sampling=Sampling(0, extra=extra)))
        said = [step.text async for step in steps if isinstance(step, TextPiece)]
        assert "".join(said) in ("yes", "no")


async def test_it_is_free_for_others_after_a_stream_was_left(local):
    endless = Sampling(temperature=0, max_tokens=2000, extra={"ignore_eos": True})
    for _ in range(3):  # more than it has places
        async with aclosing(local.stream(ask(sampling=endless))) as steps:
            await anext(steps)
    async with asyncio.timeout(PATIENCE):
        assert (await local.complete(ask())).message.text


async def test_an_answer_ends_where_nobody_says_when(model):
    endless = Sampling(temperature=0, extra={"ignore_eos": True})
    async with open_http() as http:
        local = Local("local:", http, model, bounded=Sampling(max_tokens=20))
        completion = await local.complete(ask(sampling=endless))
    assert completion.finish.usage.completion_tokens == 20


async def test_it_has_only_its_own_model(local):
    with pytest.raises(NotReady, match="gpt-4o"):
        await local.complete(ask(model="gpt-4o"))


async def test_it_is_started_again_after_its_process_died(local, model):
    await local.complete(ask())
    first = model.pid
    os.kill(first, signal.SIGKILL)
    answer = None
    async with asyncio.timeout(PATIENCE):
        while answer is None:
            try:
                answer = await local.complete(ask())
            except ProviderDown:
                await asyncio.sleep(0.05)  # what a caller does who is told to come back
    assert model.pid != first


async def test_it_ends_with_its_owner(tmp_path):
    async with open_local_model(tmp_path) as model:
        await model.ready(PATIENCE)
        pid = model.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_it_ends_when_its_owner_is_killed(tmp_path):
    owner = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"""
import asyncio, pathlib
from servers.router.adapters.local.process import open_local_model
async def main():
    async with open_local_model(pathlib.Path({str(tmp_path)!r})) as model:
        await model.ready(60)
        print(model.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
""",
        cwd=Path(model_file.__file__).parents[4],
        stdout=asyncio.subprocess.PIPE,
    )
    watched = os.pidfd_open(int(await owner.stdout.readline()))
    owner.kill()
    await owner.wait()
    await _end_of(watched)


async def _end_of(watched: int) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(watched, ended.set)
    try:
        await asyncio.wait_for(ended.wait(), PATIENCE)
    finally:
        asyncio.get_running_loop().remove_reader(watched)
        os.close(watched)


async def test_it_says_what_to_install_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, model_file.PACKAGE, None)
    async with open_local_model(tmp_path) as model:
        with pytest.raises(NotReady, match=r"astromesh-grpc\[local\]"):
            await model.ready(1)


async def test_damaged_weights_are_never_loaded(tmp_path):
    damaged = tmp_path / "weights.gguf"
    damaged.write_bytes(b"GGUF and then nonsense")
    with pytest.raises(DataLost, match="sha256"):
        model_file.verified(damaged, tmp_path / "memo.json")
    async with open_local_model(tmp_path, find=lambda: damaged) as model:
        with pytest.raises(NotReady, match="damaged"):
            await model.ready(PATIENCE)


async def test_a_checksum_is_computed_once(tmp_path):
    weights, memo = tmp_path / "weights.gguf", tmp_path / "memo.json"
    weights.write_bytes(b"x")
    sha = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    model_file.verified(weights, memo, sha)
    before = memo.stat().st_mtime_ns
    model_file.verified(weights, memo, sha)
    assert memo.stat().st_mtime_ns == before


async def test_a_changed_file_is_computed_again(tmp_path):
    weights, memo = tmp_path / "weights.gguf", tmp_path / "memo.json"
    weights.write_bytes(b"x")
    sha = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    model_file.verified(weights, memo, sha)
    weights.write_bytes(b"yy")
    with pytest.raises(DataLost):
        model_file.verified(weights, memo, sha)
