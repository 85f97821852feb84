"""Buckets: gs://, s3:// and whatever else fsspec reaches. Objects, claims on folders of them, and local copies."""

from triarch.remote.objects import Objects, is_remote, was_remote

__all__ = ["Objects", "is_remote", "was_remote"]
