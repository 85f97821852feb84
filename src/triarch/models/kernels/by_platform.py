"""All attention kernels by name, and what stands in where one cannot do what a network asks."""

from __future__ import annotations

import functools
import logging

from triarch.models.attention.masks import Mask
from triarch.models.attention.scores import Scores
from triarch.models.kernels.gpu import can_cudnn, cudnn_attention
from triarch.models.kernels.kernel import KERNELS as ANYWHERE
from triarch.models.kernels.kernel import Attend, Keys, Queries, blocked_attention
from triarch.models.kernels.tpu import can_splash, splash_attention
from triarch.models.placing import Constrain

# The kernels of one platform only; "blocked" and "dense" run anywhere.
PLATFORMS = {"splash": "tpu", "cudnn": "gpu"}
# What is fastest on a platform; elsewhere it is "blocked".
AUTOMATIC = {platform: name for name, platform in PLATFORMS.items()}
KERNELS = (*ANYWHERE, *PLATFORMS)


def attending(name: str, constrain: Constrain) -> Attend:
    """Returns a kernel for activations placed by `constrain`.

    What "splash" and "cudnn" cannot do goes through "blocked", with a notice, once.
    """
    if name in ANYWHERE:
        return ANYWHERE[name]
    serves = can_splash if name == "splash" else can_cudnn

    def attend(query: Queries, key: Keys, value: Keys, mask: Mask, scores: Scores) -> Queries:
        if not serves(query, scores):
            _notice(name, _reason(query, scores))
            return blocked_attention(query, key, value, mask, scores)
        if name == "splash":
            return splash_attention(query, key, value, mask, scores, constrain)
        return cudnn_attention(query, key, value, mask, scores)

    return attend


def _reason(query: Queries, scores: Scores) -> str:
    if scores.bias is not None:
        return "relative position biases"
    if scores.softcap is not None:
        return "a soft cap"
    return f"{query.shape[1]} queries of {query.shape[3]} numbers in {query.dtype}"


@functools.cache
def _notice(name: str, reason: str) -> None:
    logging.getLogger(__name__).warning("attention kernel %s cannot do %s: blocked attention does", name, reason)
