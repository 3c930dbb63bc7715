"""Draws agents and runs: what they may do, and what they did."""

import asyncio
from functools import partial

from servers.agents.catalogue.catalogue import Catalogue
from servers.agents.following import Following
from servers.agents.graphs.agent_graph import agent_graph
from servers.agents.graphs.run_tree import run_tree
from servers.domain.graphs import Graph


class Drawing:
    def __init__(self, catalogue: Catalogue, following: Following) -> None:
        self._catalogue = catalogue
        self._following = following

    async def agent(self, tenant: str, name: str) -> Graph:
        """Raises NotFound."""
        look = partial(self._catalogue.get, tenant)
        sketch = await agent_graph(name, look, self._catalogue.finder(tenant))
        return await asyncio.to_thread(sketch.graph)  # thousands of nodes take their time

    async def run(self, tenant: str, run_id: str) -> Graph:
        """Raises NotFound."""
        look = partial(self._following.get, tenant)
        sketch = await run_tree(run_id, look, partial(self._following.so_far, tenant))
        return await asyncio.to_thread(sketch.graph)
