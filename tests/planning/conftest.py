"""The marker of tests that compile with libtpu."""


def pytest_configure(config):
    config.addinivalue_line("markers", "tpu_compiler: compiles for TPUs that need not be there; skipped without libtpu")
