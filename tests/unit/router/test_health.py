"""Declared providers are asked how they are."""

from servers.kernel.errors import InvalidInput
from servers.router.lanes.lanes import Lanes
from servers.router.ports import ProviderDown, ProviderSettings
from servers.router.routing.health import probe

MINE = ProviderSettings("mine", "ollama", "http://mine", api_key_env="MINE_KEY")


class Feels:
    """A provider in a given state; also its own pool."""

    def __init__(self, trouble: Exception | None) -> None:
        self.trouble, self.key = trouble, None

    def get(self, kind: str, endpoint: str, options=()) -> "Feels":
        return self

    async def health(self, api_key: str) -> None:
        self.key = api_key
        if self.trouble:
            raise self.trouble


async def test_one_that_answers_is_healthy():
    lanes = Lanes()
    await probe(MINE, Feels(None), lanes, {})
    assert lanes.health == {"mine": (True, "")}


async def test_one_that_does_not_is_not_and_says_why():
    lanes = Lanes()
    await probe(MINE, Feels(ProviderDown("on fire")), lanes, {})
    assert lanes.health == {"mine": (False, "on fire")}


async def test_a_wrong_configuration_is_not_healthy_either():
    lanes = Lanes()
    await probe(MINE, Feels(InvalidInput("what?")), lanes, {})
    assert lanes.health["mine"][0] is False


async def test_the_key_is_sent_along():
    feels = Feels(None)
    await probe(MINE, feels, Lanes(), {"MINE_KEY": "abc"})
    assert feels.key == "abc"
