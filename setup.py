"""Builds the C core with the package: what cannot be said in `pyproject.toml`."""

import shutil

from setuptools import setup
from setuptools.command.build_py import build_py


class FreshBuild(build_py):
    """Starts from an empty `build/`: setuptools puts whatever an earlier build left there into the
    wheel, modules that have been moved or removed since included.
    """

    def run(self) -> None:
        """Empty the folder, then copy the modules; the C core is compiled after this."""
        if not self.editable_mode:
            shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()


setup(
    cffi_modules=["tapecast/protocol/native/build.py:builder"],
    cmdclass={"build_py": FreshBuild},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},  # one wheel for 3.11 and later
)
