"""The fast functions: compiled where a build is at hand, the reference otherwise.

What each means is said in `reference`. `COMPILED` tells which are in use.
"""

from os.path import join
from sysconfig import get_path

# An editable install keeps the compiled module in the environment (see CMakeLists.txt).
__path__.append(join(get_path("platlib"), "astromesh_grpc.native"))

try:
    from servers.kernel.native._speedups import rank

    COMPILED: bool = True
except ModuleNotFoundError:  # any other ImportError is a broken build, which must be seen
    from servers.kernel.native.reference import rank

    COMPILED = False

__all__ = ["COMPILED", "rank"]
