"""Adapters: small matrices beside the kernels of a network whose own parameters stay as they are."""
