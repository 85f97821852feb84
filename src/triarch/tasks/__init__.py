"""SeqIO: any task or mixture of a user's module, and triarch's own, which importing this registers."""

from triarch.tasks import registry

__all__ = ["registry"]
