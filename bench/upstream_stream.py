"""How soon upstream's WebSocket tells the first text, and when it is done.

Runs in upstream's environment: python upstream_stream.py URL CALLERS TIMES. Prints a list of
[seconds to the first text, seconds to the end, pieces of text].
"""

import asyncio
import json
import sys
import time

import websockets

TEXTS = ("token", "text", "delta", "chunk", "content_delta", "done")


async def one(url: str, number: int, times: int) -> list[list[float]]:
    seen = []
    async with websockets.connect(f"{url}?session_id=caller-{number}") as socket:
        for asked in range(times):
            began = time.perf_counter()
            await socket.send(json.dumps({"query": f"question {number}-{asked}"}))
            first, pieces, kind = 0.0, 0, ""
            while kind != "done":
                event = json.loads(await socket.recv())
                kind = event.get("type", "")
                if kind == "error":
                    raise SystemExit(str(event))
                if kind in TEXTS:
                    first = first or time.perf_counter() - began
                    pieces += 1
            if f"question {number}-{asked}" not in event["answer"]:
                raise SystemExit(f"a wrong answer: {event}")
            seen.append([first, time.perf_counter() - began, pieces])
    return seen


async def main(url: str, callers: int, times: int) -> None:
    seen = await asyncio.gather(*(one(url, number, times) for number in range(callers)))
    print(json.dumps([each for part in seen for each in part]))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
