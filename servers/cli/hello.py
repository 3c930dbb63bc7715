"""One question to the assistant through Envoy, answered before the newcomer's eyes."""

import json
from typing import Any

import httpx

from servers.cli.screen import Screen
from servers.cli.text import clean
from servers.kernel.errors import Internal, Unavailable

QUESTION = "Hello! In one short sentence: what can you help me with?"
_PATIENCE = 120.0  # seconds of silence; a first answer may have to load the model


async def ask_through_envoy(address: str, screen: Screen) -> None:
    """Ask over server-sent events and show the answer as it comes.

    Raises Unavailable or Internal with what the mesh said where it gives no answer.
    """
    screen.say(f"\n> {QUESTION}")
    url, body = (
        f"{address}/v1/agents/assistant:stream",
        {
            "query": QUESTION,
            "durability": "none",
        },
    )
    try:
        async with (
            httpx.AsyncClient(trust_env=False, timeout=_PATIENCE) as client,
            client.stream("POST", url, json=body, headers={"accept": "text/event-stream"}) as sent,
        ):
            if sent.is_error:
                raise Unavailable(f"no answer: {_said((await sent.aread()).decode())}")
            async for line in sent.aiter_lines():
                if line.startswith("data: "):
                    _show(json.loads(line[6:]), screen)
    except httpx.HTTPError as error:
        raise Unavailable(f"no answer: {error or type(error).__name__}") from error
    finally:
        screen.say("\n")


def _show(event: dict[str, Any], screen: Screen) -> None:
    if delta := event.get("text_delta"):
        screen.say(clean(delta.get("text", "")), end="")
    elif end := event.get("completed"):
        if end.get("state") != "RUN_STATE_COMPLETED":
            why = end.get("error", {}).get("message") or end.get("state")
            raise Internal(f"the assistant's run failed: {why}")
    elif "code" in event:  # the stream was refused half-way
        raise Unavailable(f"no answer: {event.get('message')}")


def _said(body: str) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200]
