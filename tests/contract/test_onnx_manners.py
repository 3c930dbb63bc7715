"""How a model in the mesh's own process behaves: it sends the hurried on, and tells nobody."""

import asyncio
import os
import subprocess
import sys

from servers.domain.chat import ModelRef
from servers.domain.embeddings import EmbedRequest
from servers.domain.models import BreakerState
from servers.router.ports import ModelSettings, ProviderSettings
from tests.contract.router_fixture import in_process, provider, router
from tests.docs.tour import ROOT
from tests.scripted.openai_server import openai_server

NARROW = ProviderSettings(
    "narrow",
    "onnx_embeddings",
    models=(ModelSettings("all-minilm-l6-v2"),),
    options=(("max_waiting", 1),),
)
BOTH = (ModelRef("narrow"), ModelRef("other", "m"))
EMBEDS = """
import asyncio, sys
from pathlib import Path
from servers.router.adapters.pool import open_providers
from servers.router.ports import EmbedAsk

async def main():
    async with open_providers(Path(sys.argv[1])) as pool:
        embedder = pool.embedder("onnx_embeddings", "packaged:")
        await embedder.embed(EmbedAsk("all-minilm-l6-v2", ("hello",)))

asyncio.run(main())
"""


async def test_who_finds_it_full_is_answered_by_another(tmp_path):
    async with (
        openai_server() as server,
        router(in_process, tmp_path, NARROW, provider("other", server.endpoint)) as models,
    ):
        first = asyncio.create_task(models.embed(EmbedRequest(("a", "b", "c"), BOTH)))
        await asyncio.sleep(0)  # it waits for the model to be loaded
        second = await models.embed(EmbedRequest(("d",), BOTH))
        assert (second.provider, (await first).provider) == ("other", "narrow")
        listed = {each.name: each for each in await models.providers()}
    (breaker,) = listed["narrow"].breakers
    assert (breaker.state, breaker.failures) == (BreakerState.CLOSED, 0)
    assert listed["narrow"].active == 0


def test_it_writes_nothing_into_the_home_of_its_user(tmp_path):
    home, state = tmp_path / "home", tmp_path / "state"
    home.mkdir()
    hidden = ("XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    subprocess.run(
        [sys.executable, "-c", EMBEDS, str(state)],
        cwd=ROOT,
        env={**env, "HOME": str(home), "PYTHONPATH": f"{ROOT}:{ROOT / 'gen'}"},
        check=True,
        timeout=100,
    )
    assert list(home.rglob("*")) == []
