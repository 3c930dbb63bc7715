"""What the tests of the contract read: its descriptor set, and files that show its shape."""

import os
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder that holds protos/ and gen/."""
    return ROOT


@pytest.fixture(scope="session")
def descriptors() -> FileDescriptorSet:
    return FileDescriptorSet.FromString((ROOT / "gen/astromesh.binpb").read_bytes())


@pytest.fixture(scope="session")
def pool(descriptors):
    pool = DescriptorPool()
    for file in descriptors.file:
        pool.Add(file)
    return pool


@pytest.fixture(scope="session")
def services(descriptors, pool):
    """Our services, and Google's that we serve, by name."""
    names = [
        f"{file.package}.{service.name}"
        for file in descriptors.file
        if file.package.startswith(("astromesh.", "google.longrunning"))
        for service in file.service
    ]
    return [pool.FindServiceByName(name) for name in sorted(names)]


@pytest.fixture
def golden():
    """Compares a text with a file in tests/golden.

    `ASTROMESH_GOLDEN=write pytest ...` writes the files instead. Read the diff before you
    commit it: it is what callers will notice.
    """

    def check(name: str, text: str) -> None:
        path = ROOT / "tests/golden" / name
        if os.environ.get("ASTROMESH_GOLDEN") == "write":
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), f"{name}: see the fixture `golden`"

    return check
