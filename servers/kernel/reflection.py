"""Server reflection under both of its names, v1alpha and v1.

The two differ in nothing but the package; grpcio only knows the former.
"""

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from google.protobuf.descriptor import FileDescriptor
from grpc_reflection.v1alpha import reflection, reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import (
    add_ServerReflectionServicer_to_server as add_alpha,
)

ALPHA: str = reflection.SERVICE_NAME
STABLE = "grpc.reflection.v1.ServerReflection"
_FILE = "grpc/reflection/v1/reflection.proto"


def add_reflection(services: Iterable[str], server: grpc.aio.Server) -> None:
    """Let clients such as grpcurl ask what these services look like."""
    _describe_stable()
    names = [*services, ALPHA, STABLE]
    servicer = reflection.aio.ReflectionServicer(names, pool=_Described(names))
    add_alpha(servicer, server)  # type: ignore[no-untyped-call]  # not in the stubs
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(STABLE, {"ServerReflectionInfo": method})
    server.add_generic_rpc_handlers((handler,))


class _Described:
    """The default pool, which knows no methods by their names: `grpcurl describe` does."""

    def __init__(self, services: Iterable[str]) -> None:
        self._pool = descriptor_pool.Default()
        self._services = frozenset(services)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:
        service, _, method = symbol.rpartition(".")
        if service in self._services:
            found = self._pool.FindServiceByName(service)
            if method in found.methods_by_name:
                return found.file
        return self._pool.FindFileContainingSymbol(symbol)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)


def _describe_stable() -> None:
    """Whoever describes all services wants to see this one, too."""
    pool = descriptor_pool.Default()
    try:
        pool.FindFileByName(_FILE)
    except KeyError:
        alpha, stable = descriptor_pb2.FileDescriptorProto(), descriptor_pb2.FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(alpha)
        text_format.Parse(text_format.MessageToString(alpha).replace("v1alpha", "v1"), stable)
        stable.name = _FILE
        pool.Add(stable)
