"""Fixtures of the bad inputs."""

import pytest

from tests.bad_input.samples import Samples


@pytest.fixture(scope="session")
def samples(tmp_path_factory):
    """Small whole inputs of every kind."""
    return Samples(tmp_path_factory.mktemp("samples"))


@pytest.fixture(autouse=True)
def quick_fits(few_starts):
    """What is wrong after a fit is found out soon."""
