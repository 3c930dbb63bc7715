"""Kinds of index that the backend `faiss` takes on other machines."""

from functools import partial

from faiss import IndexFlatIP

from servers.kernel.vectors.index import NewIndex
from servers.kernel.vectors.index_flat import FlatIndex
from servers.kernel.vectors.index_gpu import GpuIndex

INDEXES: dict[str, NewIndex] = {
    "array": FlatIndex,  # where FAISS isn't installed
    "device": partial(GpuIndex, new_flat=IndexFlatIP),  # the GPU's, over one in this memory
    "gpu": GpuIndex,
}
