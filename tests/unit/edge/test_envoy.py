"""What is decided without an Envoy."""

from servers.edge.envoy import pause
from servers.edge.settings import EdgeSettings, rendered


def test_the_pause_doubles_with_each_crash_up_to_half_a_minute():
    assert [pause(n) for n in (1, 2, 3, 8, 1000)] == [0.25, 0.5, 1.0, 30.0, 30.0]


def test_nothing_but_loopback_is_listened_on_or_dialled():
    text = rendered(EdgeSettings())
    addresses = [line for line in text.splitlines() if "socket_address: {" in line]
    assert len(addresses) == 3
    assert all("127.0.0.1" in line for line in addresses)


def test_every_replica_is_an_endpoint():
    text = rendered(EdgeSettings(grpc_ports=(50051, 50052)))
    assert "port_value: 50051" in text
    assert "port_value: 50052" in text
