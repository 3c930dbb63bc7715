"""A Triton behind TLS that wants to know its callers, too."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from servers.kernel.errors import NotReady
from servers.router.adapters.triton.provider import Triton
from servers.router.ports import ProviderDown, RerankAsk
from tests.triton import server as triton_server

pytestmark = [
    pytest.mark.triton,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates"),
]

ASK = RerankAsk("overlap", "red wine", ("red wine",))


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


def certificate(folder: Path, name: str) -> None:
    """NAME.key and NAME.pem, signed by the authority in the folder."""
    made = ("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}")
    openssl(folder, *made, "-keyout", f"{name}.key", "-out", f"{name}.csr")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    signed = ("x509", "-req", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
    openssl(folder, *signed, "-extfile", "names", "-in", f"{name}.csr", "-out", f"{name}.pem")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    made = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=ca")
    openssl(folder, *made, "-keyout", "ca.key", "-out", "ca.pem")
    certificate(folder, "server")
    certificate(folder, "mesh")
    return folder


@pytest.fixture(scope="module")
def server(certificates, tmp_path_factory) -> Iterator[triton_server.Triton]:
    options = (
        "--grpc-use-ssl=true",
        "--grpc-use-ssl-mutual=true",
        f"--grpc-server-cert={certificates / 'server.pem'}",
        f"--grpc-server-key={certificates / 'server.key'}",
        f"--grpc-root-cert={certificates / 'ca.pem'}",
    )
    client = {
        "ssl": True,
        "root_certificates": str(certificates / "ca.pem"),
        "private_key": str(certificates / "mesh.key"),
        "certificate_chain": str(certificates / "mesh.pem"),
    }
    folder = tmp_path_factory.mktemp("triton")
    with triton_server.triton(folder, "overlap", options=options, client=client) as started:
        yield started


async def rerank(endpoint: str, **options: str):
    provider = Triton(endpoint, **options)
    try:
        return await provider.rerank(ASK)
    finally:
        await provider.aclose()


async def test_it_answers_who_has_a_certificate(server, certificates):
    found = await rerank(
        f"grpcs://{server.address}",
        ca_file=str(certificates / "ca.pem"),
        cert_file=str(certificates / "mesh.pem"),
        key_file=str(certificates / "mesh.key"),
    )
    assert found.scores == (1.0,)


async def test_it_does_not_answer_who_has_none(server, certificates):
    with pytest.raises(ProviderDown):
        await rerank(f"grpcs://{server.address}", ca_file=str(certificates / "ca.pem"))


async def test_it_is_not_believed_without_its_authority(server):
    with pytest.raises(ProviderDown, match="CERTIFICATE_VERIFY_FAILED"):
        await rerank(f"grpcs://{server.address}")


async def test_it_does_not_answer_without_tls(server):
    with pytest.raises(ProviderDown):
        await rerank(f"grpc://{server.address}")


async def test_a_certificate_that_is_not_there_is_named(server):
    with pytest.raises(NotReady, match=r"/nowhere/ca\.pem"):
        await rerank(f"grpcs://{server.address}", ca_file="/nowhere/ca.pem")
