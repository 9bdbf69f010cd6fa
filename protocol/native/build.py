"""Build the C core: `python -m tapecast.protocol.native.build [--sanitize]` compiles every .c
file here into `protocol/_native.abi3.so`.

The declarations that Python sees stand in the `.h` file beside each source, in the part between
the lines `/* cdef */` and `/* end cdef */`; this module joins those parts, so a declaration is
written once. Needs gcc or clang and cffi.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path

import cffi

__all__ = ["build", "builder"]

_ROOT = Path(__file__).absolute().parents[3]
"""The folder that holds `tapecast/`: no link is resolved, so that it is the same one in a clone,
where `tapecast/protocol` is a link, and in an unpacked sdist, where it is a folder.
"""
_SOURCES = Path("tapecast") / "protocol" / "native"
"""This folder from the root: setuptools wants relative paths, and no path of the machine that
builds enters the module.
"""
_HERE = _ROOT / _SOURCES
_CPU = ["-march=x86-64-v2"] if platform.machine() in ("x86_64", "AMD64") else []
"""SSE4.1 and its like, in every x86-64 server since 2009; other machines take the portable
paths.
"""
_FLAGS = ["-std=gnu11", "-O3", "-g0", *_CPU, "-Wall", "-Wextra", "-Werror", "-fno-strict-aliasing"]
"""`-g0`: line tables would double the module and name the folder of the build; function names
stay, for `perf`.
"""
_SANITIZE = [
    "-O1",
    "-g",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-fno-omit-frame-pointer",
]


def _declarations() -> str:
    parts = []
    for header in sorted(_HERE.glob("*.h")):
        parts.extend(
            re.findall(r"/\* cdef \*/\n(.*?)/\* end cdef \*/", header.read_text(), re.DOTALL)
        )
    return "\n".join(parts)


def builder(sanitize: bool = False) -> cffi.FFI:
    """Return the cffi builder of `tapecast.protocol._native` (abi3, API mode); its paths are
    relative, so the root has to be the working folder when it compiles.
    """
    ffi = cffi.FFI()
    ffi.cdef(_declarations())
    headers = [
        header.name for header in sorted(_HERE.glob("*.h")) if "/* cdef */" in header.read_text()
    ]
    flags = _FLAGS + (_SANITIZE if sanitize else [])
    ffi.set_source(
        "tapecast.protocol._native",
        "\n".join(f'#include "{name}"' for name in headers),
        sources=[str(_SOURCES / path.name) for path in sorted(_HERE.glob("*.c"))],
        include_dirs=[str(_SOURCES)],
        depends=[str(_SOURCES / path.name) for path in sorted(_HERE.glob("*.h"))],
        extra_compile_args=flags,
        extra_link_args=_SANITIZE[2:3] if sanitize else [],
        py_limited_api=True,
        define_macros=[("Py_LIMITED_API", "0x030B0000"), ("_GNU_SOURCE", None)],
    )
    return ffi


def build(sanitize: bool = False) -> str:
    """Compile in place and return the module's path. Changes the working folder to the root."""
    os.chdir(_ROOT)
    return str(builder(sanitize).compile(tmpdir=str(_ROOT), verbose=False))


if __name__ == "__main__":
    print(build("--sanitize" in sys.argv[1:]))
