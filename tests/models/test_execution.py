"""Types of activations, and one-line complaints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import tiny
from tests.models.tiny import FAMILIES
from triarch.errors import UserError
from triarch.models import Execution
from triarch.models.precision import at_least_float32


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_logits_stay_near_float32(family):
    """Root mean square of the difference below 6 % of that of the logits, which are themselves float32.

    Each rounding costs up to 0.4 %; these parameters are large, so that attention and seven layers amplify it.
    """
    config = FAMILIES[family]
    a, b, c = tiny.documents(config)
    batch = tiny.lay_out(config, [[a, b], [c]]).batch
    real = batch[f"{'encoder' if config.architecture == 'encoder-only' else 'decoder'}_segment_ids"] > 0
    exact = tiny.logits(config, batch)[real]
    narrow = tiny.logits(config, batch, Execution("bfloat16"))[real]
    assert narrow.dtype == np.float32
    assert 1e-4 < np.sqrt(np.mean((narrow - exact) ** 2) / np.mean(exact**2)) < 0.06


def test_automatic_type_is_float32_on_the_cpu():
    assert Execution().dtype == (jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16)
    assert Execution("bfloat16").dtype == jnp.bfloat16
    assert at_least_float32(jnp.bfloat16) == jnp.float32 == at_least_float32(jnp.float32)


@pytest.mark.parametrize(
    ("execution", "message"),
    [
        (Execution("bfloat"), "Execution.compute_dtype = 'bfloat' (did you mean 'bfloat16'?)"),
        (Execution(remat="save_projection"), "Execution.remat = 'save_projection' (did you mean 'save_projections'?)"),
        (Execution(feed_forward_parts=0), "Execution.feed_forward_parts = 0: expected a whole number from 1 on"),
        (Execution(feed_forward_parts=2.0), "Execution.feed_forward_parts = 2.0: expected a whole number from 1 on"),
    ],
)
def test_an_unknown_choice_is_named_with_the_nearest(execution, message):
    with pytest.raises(UserError) as caught:
        execution.validate()
    assert str(caught.value) == message


def test_known_choices_pass():
    Execution().validate()
    Execution("bfloat16", False, "save_projections").validate()
