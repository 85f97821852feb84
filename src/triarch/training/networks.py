"""The network that a run trains: its model, what of it is trained, its head and its adapters."""

from __future__ import annotations

from jax.sharding import Mesh

from triarch.models import Execution, MakeHead, Network
from triarch.models.adapters.network import AdaptedNetwork
from triarch.models.network import Tree, specs
from triarch.models.placing import Constrain, unconstrained
from triarch.sharding import Constrainer, platform
from triarch.training.config import RunConfig
from triarch.training.optimizers.frozen import trained_names

_HEAD = "head/"


class TaughtNetwork(Network):
    """A network with a teacher beside it, which lies elsewhere."""

    def stored(self, params: Tree) -> Tree:
        """Returns what a checkpoint keeps: all but the teacher."""
        return {name: part for name, part in params.items() if name != _HEAD.rstrip("/")}


def run_network(
    config: RunConfig,
    make_head: MakeHead | None = None,
    execution: Execution | None = None,
    constrain: Constrain = unconstrained,
) -> Network:
    """Returns the network of a run.

    Args:
      config: of the run.
      make_head: makes the parameters that the objective has beside the network; None for none.
      execution: how it is computed; None for as the config says.
      constrain: places activations on a mesh.

    Raises:
      UserError: a name of what is trained, or adapted, names nothing.
    """
    execution = config.execution if execution is None else execution
    if config.adapter is not None:
        return AdaptedNetwork(
            config.model, config.adapter, execution, constrain, make_head=make_head, dropout=config.dropout
        )
    trained = trained_names(config.model, config.train_only, config.frozen, make_head)
    if getattr(make_head, "is_frozen", False):
        every = specs(config.model, make_head) if trained is None else trained
        trained = frozenset(name for name in every if not name.startswith(_HEAD))
        given = config.model, execution, constrain, trained
        return TaughtNetwork(*given, make_head=make_head, dropout=config.dropout)
    return Network(config.model, execution, constrain, trained, make_head=make_head, dropout=config.dropout)


def placed(config: RunConfig, mesh: Mesh, make_head: MakeHead | None = None) -> Network:
    """Returns a run's network with its activations on a mesh; `make_head` is the objective's."""
    # Of the mesh, not of this machine: programs are also compiled for devices that are elsewhere.
    execution = config.execution.on(platform(mesh))
    return run_network(config, make_head, execution, Constrainer(config.rules, mesh))
