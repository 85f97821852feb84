"""Fixtures of the training tests."""

import pytest

from tests.training import tiny


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """A token store of synthetic text."""
    return tiny.write_store(tmp_path_factory.mktemp("data") / "store")


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """A folder for compiled steps, so that a second run of the same model starts at once."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def config(store, cache):
    """A short decoder-only run."""
    return tiny.run_config(store, compilation_cache=cache)
