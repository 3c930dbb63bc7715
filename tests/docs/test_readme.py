"""Every block of the README works when a reader goes through them from top to bottom.

Each test is one block and needs those before it: they are one tour through one mesh.
"""

import socket

import pytest

from tests.docs.blocks import blocks_of, looks_like
from tests.docs.tour import ROOT, Tour

pytestmark = [pytest.mark.slow, pytest.mark.local_model, pytest.mark.envoy]
BLOCKS = blocks_of(ROOT / "README.md")


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    tour = Tour(tmp_path_factory.mktemp("readme"))
    yield tour
    tour.end()


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_it_works(tour, block):
    if block.file:
        tour.save(block.file, block.text)
        return
    if block.text.strip() == "make up":
        printed = tour.start()
    else:
        assert block.language == "bash", "say in the first line which file it is: # name.py"
        done = tour.run(block.text)
        printed = done.stdout
        assert done.returncode == 0, f"{printed}\n{tour.log()}"
    if block.shown:
        shown = tour.here(block.shown)
        assert looks_like(shown, block.shown_as, printed), f"shown:\n{shown}\nprinted:\n{printed}"


def test_ctrl_c_stops_everything(tour):
    assert tour.interrupt() == 0
    for port in (tour.http_port, tour.grpc_port):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
