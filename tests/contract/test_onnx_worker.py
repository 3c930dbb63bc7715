"""The process that computes for a model folder: begins late, fails alone, ends with its owner."""

import asyncio
import json
import os
import shutil
import signal
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from servers.domain.chat import TextPiece
from servers.kernel.errors import NotReady
from servers.router.adapters.genai.process import WORKER
from servers.router.ports import ProviderDown, Timeouts
from tests.contract.onnx_fixture import ask, opened
from tests.contract.tiny_causal import build
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
ENDLESS = ask("sing", max_tokens=90_000)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def slow(tmp_path_factory) -> Path:
    """A token takes it some hundredths of a second."""
    return build(tmp_path_factory.mktemp("models") / "slow", work=400)


@pytest.fixture
def copied(tiny, tmp_path) -> Path:
    """A folder to spoil."""
    return Path(shutil.copytree(tiny, tmp_path / "copied"))


class TestItsBeginning:
    async def test_is_when_somebody_asks(self, tiny):
        async with opened(tiny) as onnx:
            onnx.capabilities("tiny")
            await onnx.health("")
            assert onnx.pid is None
            await onnx.complete(ask("count"))
            assert onnx.pid is not None

    async def test_is_one_for_all_who_ask(self, tiny):
        async with opened(tiny) as onnx:
            await asyncio.gather(*(onnx.complete(ask("count")) for _ in range(4)))
            first = onnx.pid
            await onnx.complete(ask("count"))
            assert onnx.pid == first

    async def test_goes_on_though_who_asked_first_left(self, tiny):
        async with opened(tiny) as onnx:
            impatient = asyncio.create_task(onnx.complete(ask("count")))
            second = asyncio.create_task(onnx.complete(ask("count")))
            await asyncio.sleep(0)
            impatient.cancel()
            assert (await second).message.text == "one two three four five"

    async def test_is_waited_for_only_so_long(self, tiny):
        async with opened(tiny) as onnx:
            with pytest.raises(ProviderDown) as late:
                await onnx.complete(ask("count", timeouts=Timeouts(first_token=0.01)))
            assert late.value.reason == "MODEL_LOADING"
            assert (await onnx.complete(ask("count"))).message.text  # it went on loading

    async def test_needs_the_package(self, tiny, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxruntime_genai", None)
        async with opened(tiny) as onnx:
            with pytest.raises(NotReady, match=r"astromesh-grpc\[genai\]") as missing:
                await onnx.complete(ask("count"))
        assert missing.value.reason == "EXTRA_MISSING"

    async def test_needs_no_weights_to_count(self, copied):
        (copied / "model.onnx").write_bytes(b"no model")
        async with opened(copied) as onnx:
            assert await onnx.count_tokens(ask("count")) == 4


class TestAFolder:
    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("genai_config.json", "MODEL_MISSING"),
            ("model.onnx", "MODEL_MISSING"),
            ("tokenizer.json", "MODEL_MISSING"),
            ("tokenizer_config.json", "MODEL_MISSING"),  # it has the chat template
        ],
    )
    async def test_without_a_file_is_told_what_to_do(self, copied, name, reason):
        (copied / name).unlink()
        async with opened(copied) as onnx:
            with pytest.raises(NotReady, match=r"builder|chat_template.jinja") as missing:
                await onnx.complete(ask("count"))
            with pytest.raises(NotReady):
                await onnx.health("")
        assert missing.value.reason == reason

    async def test_that_is_not_there_is_named(self, tmp_path):
        async with opened(tmp_path / "nowhere") as onnx:
            with pytest.raises(NotReady, match="nowhere"):
                await onnx.complete(ask("count"))

    @pytest.mark.parametrize(
        ("name", "content", "match"),
        [
            ("genai_config.json", "{", "genai_config.json"),
            ("genai_config.json", "[]", "genai_config.json"),
            ("genai_config.json", '{"model": {"decoder": 3}}', "genai_config.json"),
            ("model.onnx", "no model", "model.onnx"),
            ("tokenizer.json", "{}", "tokenizer.json"),
            ("chat_template.jinja", "{% if %}", "chat template"),
        ],
    )
    async def test_with_a_broken_file_is_broken(self, copied, name, content, match):
        (copied / name).write_text(content)
        async with opened(copied) as onnx:
            with pytest.raises(NotReady, match=match) as broken:
                await onnx.complete(ask("count"))
        assert broken.value.reason == "MODEL_BROKEN"

    async def test_that_could_not_be_loaded_is_not_well(self, copied):
        (copied / "model.onnx").write_bytes(b"no model")
        async with opened(copied) as onnx:
            await onnx.health("")  # which loads nothing
            with pytest.raises(NotReady):
                await onnx.complete(ask("count"))
            with pytest.raises(NotReady, match=r"model\.onnx"):
                await onnx.health("")

    async def test_is_let_alone_for_a_moment_and_then_tried_again(self, copied):
        clock = [0.0]
        weights = (copied / "model.onnx").read_bytes()
        (copied / "model.onnx").write_bytes(b"no model")
        async with opened(copied, now=lambda: clock[0]) as onnx:
            with pytest.raises(NotReady):
                await onnx.complete(ask("count"))
            (copied / "model.onnx").write_bytes(weights)
            clock[0] += 1.9
            with pytest.raises(NotReady):
                await onnx.complete(ask("count"))
            clock[0] += 0.1
            assert (await onnx.complete(ask("count"))).message.text
            await onnx.health("")

    async def test_may_have_its_template_in_a_file_of_its_own(self, copied):
        (copied / "chat_template.jinja").write_text("count<|assistant|>one two")
        async with opened(copied) as onnx:
            assert (await onnx.complete(ask("greet"))).message.text == " three four five"

    async def test_has_one_template_only(self, copied):
        settings = json.loads((copied / "tokenizer_config.json").read_text())
        settings["chat_template"] = [{"name": "default", "template": "x"}]
        (copied / "tokenizer_config.json").write_text(json.dumps(settings))
        async with opened(copied) as onnx:
            with pytest.raises(NotReady, match="leave one there"):
                await onnx.complete(ask("count"))

    @pytest.mark.parametrize("device", ["auto", "cuda"])
    async def test_that_needs_cuda_says_which_package_has_it(self, copied, device):
        if device == "auto":  # then the folder decides
            config = json.loads((copied / "genai_config.json").read_text())
            options = {"provider_options": [{"cuda": {}}]}
            config["model"]["decoder"]["session_options"] = options
            (copied / "genai_config.json").write_text(json.dumps(config))
        async with opened(copied, device=device) as onnx:
            with pytest.raises(NotReady, match="onnxruntime-genai-cuda"):
                await onnx.complete(ask("count"))

    async def test_for_cuda_may_be_asked_to_do_without(self, copied):
        config = json.loads((copied / "genai_config.json").read_text())
        config["model"]["decoder"]["session_options"] = {"provider_options": [{"cuda": {}}]}
        (copied / "genai_config.json").write_text(json.dumps(config))
        async with opened(copied, device="cpu", threads=1) as onnx:
            assert (await onnx.complete(ask("greet"))).message.text == "Good morning, Ada."


class TestAtWork:
    async def test_it_holds_up_nobody_else(self, slow):
        """The package computes with Python's lock held: in this process, nothing would go on."""
        async with opened(slow) as onnx, aclosing(onnx.stream(ENDLESS)) as steps:
            await anext(steps)
            moments = 0
            token = asyncio.ensure_future(anext(steps))
            while not token.done():
                await asyncio.sleep(0)
                moments += 1
        assert moments > 10

    async def test_it_is_waited_for_between_tokens_only_so_long(self, slow):
        limits = Timeouts(between_tokens=0.0001)
        async with opened(slow) as onnx:
            with pytest.raises(ProviderDown, match="no further token") as late:
                await onnx.complete(ask("sing", timeouts=limits))
        assert late.value.reason == "PROVIDER_TIMEOUT"

    async def test_it_may_take_only_so_long_altogether(self, slow):
        async with opened(slow) as onnx:
            await onnx.complete(ask("greet"))
            with pytest.raises(ProviderDown, match="no whole answer"):
                await onnx.complete(ask("sing", max_tokens=90_000, timeouts=Timeouts(total=0.5)))

    async def test_it_says_nothing_more_once_a_conversation_is_cancelled(self, tiny):
        async with asyncio.timeout(PATIENCE):
            events = await _talk(tiny)
        ends = [number for number, event in enumerate(events) if event.get("id") == 2]
        assert [event for event in events if "text" in event]
        assert all(event.get("id") != 1 for event in events[ends[0] :])

    async def test_it_is_free_for_others_after_a_stream_was_left(self, slow):
        async with opened(slow, parallel=1) as onnx:
            for _ in range(3):
                async with aclosing(onnx.stream(ENDLESS)) as steps:
                    await anext(steps)
            assert (await onnx.complete(ask("greet"))).message.text == "Good morning, Ada."

    async def test_it_tells_nobody_about_the_models_that_it_loads(
        self, tiny, tmp_path, monkeypatch
    ):
        """Left to itself, the package writes a database of events and sends them away."""
        for name in ("CI", "GITHUB_ACTIONS", "GITLAB_CI", "JENKINS_URL", "TF_BUILD"):
            monkeypatch.delenv(name, raising=False)  # these alone would silence it
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        async with opened(tiny) as onnx:
            await onnx.complete(ask("count"))
        assert list(tmp_path.iterdir()) == []


class TestItsEnd:
    async def test_comes_with_its_owner(self, tiny):
        async with opened(tiny) as onnx:
            await onnx.complete(ask("count"))
            pid = onnx.pid
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    async def test_comes_in_the_middle_of_an_answer_when_the_owner_leaves(self, tiny):
        async with opened(tiny) as onnx:
            steps = onnx.stream(ENDLESS)
            await anext(steps)
            await onnx.aclose()
            with pytest.raises(ProviderDown):
                async for _ in steps:
                    pass

    async def test_comes_when_its_owner_is_killed(self, tiny):
        program = f"""
import asyncio
from pathlib import Path
from tests.contract.onnx_fixture import ask, opened
async def main():
    async with opened(Path({str(tiny)!r})) as onnx:
        async for _ in onnx.stream(ask("sing", max_tokens=90_000)):
            print(onnx.pid, flush=True)
            await asyncio.Event().wait()
asyncio.run(main())
"""
        owner = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        watched = os.pidfd_open(int(await owner.stdout.readline()))
        owner.kill()
        await owner.wait()
        await _readable(watched)

    async def test_by_a_crash_ends_the_answers_that_were_under_way(self, tiny):
        async with opened(tiny) as onnx, aclosing(onnx.stream(ENDLESS)) as steps:
            assert isinstance(await anext(steps), TextPiece)
            os.kill(onnx.pid, signal.SIGKILL)
            with pytest.raises(ProviderDown, match="exit code -9") as crashed:
                async for _ in steps:
                    pass
            assert crashed.value.reason == "MODEL_RESTARTING"

    async def test_by_a_crash_is_followed_by_another_beginning(self, tiny):
        async with opened(tiny) as onnx:
            steps = onnx.stream(ENDLESS)
            await anext(steps)
            first = onnx.pid
            os.kill(first, signal.SIGKILL)
            with pytest.raises(ProviderDown):
                async for _ in steps:
                    pass
            assert (await onnx.complete(ask("count"))).message.text
            assert onnx.pid != first


async def _talk(folder: Path) -> list[dict]:
    """With the worker itself: an answer is left in its middle, then a prompt is counted."""
    settings = json.dumps({"folder": str(folder), "device": "auto", "threads": 0})
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", WORKER, settings),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    prompt = {"messages": [{"role": "user", "content": "sing"}], "tools": [], "template": {}}
    chat_ = {"id": 1, "do": "chat", **prompt, "limit": 90_000, "search": {}, "schema": ""}
    worker.stdin.write(json.dumps(chat_).encode() + b"\n")
    events = [json.loads(await worker.stdout.readline()) for _ in range(10)]
    for job in ({"id": 1, "do": "cancel"}, {"id": 2, "do": "count", **prompt}):
        worker.stdin.write(json.dumps(job).encode() + b"\n")
    while events[-1]["id"] != 2:
        events.append(json.loads(await worker.stdout.readline()))
    worker.stdin.close()
    rest = await worker.stdout.read()
    await worker.wait()
    return events + [json.loads(line) for line in rest.splitlines()]


async def _readable(descriptor: int) -> None:
    """A process that is watched can be read once it has ended."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
