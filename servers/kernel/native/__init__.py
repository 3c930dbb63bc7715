"""The fast functions: compiled where a build is at hand, the reference otherwise.

What each means is said in the modules beside this one. `COMPILED` tells which are in use.
"""

from os.path import join
from sysconfig import get_path

from servers.kernel.native.nearest import Codes, quantise
from servers.kernel.native.pii import ALL_PII, PII_KINDS

# An editable install keeps the compiled module in the environment (see CMakeLists.txt).
__path__.append(join(get_path("platlib"), "astromesh_grpc.native"))

try:
    from servers.kernel.native._speedups import (
        Bpe,
        code_top_k,
        fixed_values,
        max_sim,
        mmr,
        neighbours,
        pii_scan,
        rank,
        recursive_chunks,
        recursive_values,
        rescore,
        sentence_chunks,
        sentence_spans,
        sentence_values,
        top_k,
    )

    COMPILED: bool = True
except ModuleNotFoundError:  # any other ImportError is a broken build, which must be seen
    from servers.kernel.native.bpe import Bpe
    from servers.kernel.native.chunks import recursive_chunks
    from servers.kernel.native.diverse import mmr, neighbours
    from servers.kernel.native.late_interaction import max_sim
    from servers.kernel.native.nearest import code_top_k, rescore, top_k
    from servers.kernel.native.pii import pii_scan
    from servers.kernel.native.reference import rank
    from servers.kernel.native.sentences import sentence_chunks, sentence_spans
    from servers.kernel.native.values import fixed_values, recursive_values, sentence_values

    COMPILED = False

__all__ = [
    "ALL_PII",
    "COMPILED",
    "PII_KINDS",
    "Bpe",
    "Codes",
    "code_top_k",
    "fixed_values",
    "max_sim",
    "mmr",
    "neighbours",
    "pii_scan",
    "quantise",
    "rank",
    "recursive_chunks",
    "recursive_values",
    "rescore",
    "sentence_chunks",
    "sentence_spans",
    "sentence_values",
    "top_k",
]
