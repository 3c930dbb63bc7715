"""A signal asks the mesh to stop; the next one does not ask."""

import asyncio
import os
import signal

import pytest

from servers.cli.stopping import stopping


async def send(number: int) -> None:
    os.kill(os.getpid(), number)
    await asyncio.sleep(0)  # the loop hears of it in its next round


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_the_first_signal_asks(number):
    async def serve() -> int:
        with stopping(asyncio.current_task()) as stop:
            stop.interruptible = False
            await send(number)
            await stop.wait()
            return 7

    assert await asyncio.create_task(serve()) == 7


async def test_the_second_signal_interrupts_the_end():
    async def serve() -> int:
        with stopping(asyncio.current_task()) as stop:
            stop.interruptible = False
            await send(signal.SIGINT)
            await stop.wait()
            await send(signal.SIGINT)
            await asyncio.Event().wait()
            return 7

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(serve())


async def test_a_signal_interrupts_the_start():
    async def serve() -> int:
        with stopping(asyncio.current_task()):
            await send(signal.SIGTERM)
            await asyncio.Event().wait()
            return 7

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(serve())
