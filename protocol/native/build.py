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

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parent.parent
_SOURCES = Path("tapecast") / "protocol" / "native"
"""As the package sees this folder; relative to the root, as setuptools wants it."""
_CPU = ["-march=x86-64-v2"] if platform.machine() in ("x86_64", "AMD64") else []
"""SSE4.1 and its like, in every x86-64 server since 2009; other machines take the portable
paths.
"""
_FLAGS = ["-std=gnu11", "-O3", *_CPU, "-Wall", "-Wextra", "-Werror", "-fno-strict-aliasing"]
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
    """Return the cffi builder of `protocol._native` (abi3, API mode)."""
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
        include_dirs=[str(_HERE)],
        depends=[str(_SOURCES / path.name) for path in sorted(_HERE.glob("*.h"))],
        extra_compile_args=flags,
        extra_link_args=_SANITIZE[2:3] if sanitize else [],
        py_limited_api=True,
        define_macros=[("Py_LIMITED_API", "0x030B0000"), ("_GNU_SOURCE", None)],
    )
    return ffi


def build(sanitize: bool = False) -> str:
    """Compile in place and return the path of the module."""
    os.chdir(_ROOT)
    return str(builder(sanitize).compile(tmpdir=str(_ROOT), verbose=False))


if __name__ == "__main__":
    print(build("--sanitize" in sys.argv[1:]))
