"""Builds the C core with the package: what cannot be said in `pyproject.toml`."""

from setuptools import setup

setup(cffi_modules=["tapecast/protocol/native/build.py:builder"])
