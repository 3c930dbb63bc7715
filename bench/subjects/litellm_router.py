"""LiteLLM's Router in process. Runs in an environment of its own: see bench.litellm_package."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bench.callers import Ask
from bench.instant_model import answer_to
from bench.subjects import Asking, Setup, messages


@asynccontextmanager
async def opened(setup: Setup) -> AsyncIterator[Asking]:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it fetches prices when imported
    import litellm

    litellm.suppress_debug_info = True
    router = litellm.Router(model_list=_models(setup), **_options(setup))

    def asking(stream: bool) -> Ask:
        return _streamed(router) if stream else _whole(router)

    yield asking


def _models(setup: Setup) -> list[dict[str, Any]]:
    limits = {} if setup.first_token is None else {"stream_timeout": setup.first_token}
    return [
        {
            "model_name": name,
            "litellm_params": {
                "model": "openai/instant",
                "api_base": f"http://127.0.0.1:{port}/v1",
                "api_key": "not-needed",
                **limits,
            },
        }
        for name, port in setup.ports.items()
    ]


def _options(setup: Setup) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if setup.fallback:
        options["fallbacks"] = [{"primary": ["fallback"]}]
    if setup.failures is not None:
        options["allowed_fails"] = setup.failures - 1  # one more than is allowed
    if setup.cooldown is not None:
        options["cooldown_time"] = setup.cooldown
    if setup.retries is not None:
        options["num_retries"] = setup.retries
    return options


def _whole(router: Any) -> Ask:
    async def ask(question: str) -> str:
        answer = await router.acompletion(model="primary", messages=messages(question))
        said = answer.choices[0].message.content
        return "" if said == answer_to(question) else said or "nothing"

    return ask


def _streamed(router: Any) -> Ask:
    async def ask(question: str) -> str:
        events = await router.acompletion(
            model="primary",
            messages=messages(question),
            stream=True,
            stream_options={"include_usage": True},
        )
        said = "".join([c.delta.content or "" async for event in events for c in event.choices])
        return "" if said == answer_to(question) else said or "nothing"

    return ask
