"""Published laws that a formula says whole. Each is fitted as its authors did, as far as that is known."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from triarch.scaling.laws.formula import FormulaLaw
from triarch.scaling.tables.roles import FLOPS, LOSS, PARAMS, TOKENS, Role, X, Y

ENCODER_PARAMS = Role("encoder_params", "parameters of the encoder", "Ne")
DECODER_PARAMS = Role("decoder_params", "parameters of the decoder", "Nd")
EXPERTS = Role("experts", "experts of each layer; 1 for a dense model", "X")
GRANULARITY = Role("granularity", "width of a dense model's hidden layer over an expert's", "G")
VOCABULARY_PARAMS = Role("vocabulary_params", "parameters of the embeddings", "Nv")
OTHER_PARAMS = Role("other_params", "parameters but those of the embeddings", "Nnv")
ACCURACY = dataclasses.replace(Y, positive=False)


@dataclasses.dataclass(frozen=True)
class Kaplan(FormulaLaw):
    """Kaplan et al. 2020, arXiv 2001.08361, eq. 1.5: size and data limit the loss together."""

    name = "kaplan"
    text = "L = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D"
    needs = (PARAMS, TOKENS, LOSS)


@dataclasses.dataclass(frozen=True)
class Gadre(FormulaLaw):
    """Gadre et al. 2024, arXiv 2403.08540, eq. 4: E + (a M^eta + b / M^eta) / C^eta with M = D / N and C = 6 N D, by
    least squares of the loss. Size and data have one exponent, 2 eta: over-training costs the same at every budget."""

    name = "gadre"
    text = "L = E + (a / N^(2 * eta) + b / D^(2 * eta)) / 6^eta"
    needs = (PARAMS, TOKENS, LOSS)
    log_target = False
    delta = math.inf


@dataclasses.dataclass(frozen=True)
class GadreError(FormulaLaw):
    """Gadre et al. 2024, arXiv 2403.08540, eq. 5: the mean error on tasks against loss, by least squares."""

    name = "gadre_error"
    text = "error = epsilon - k * exp(-gamma * loss)"
    needs = (LOSS, ACCURACY)
    bounds: ClassVar = {"epsilon": (0.0, 1.0)}
    log_target = False
    delta = math.inf


@dataclasses.dataclass(frozen=True)
class Bansal(FormulaLaw):
    """Bansal et al. 2022, arXiv 2202.01994: a model of one size, which data help until its own limit C."""

    name = "bansal"
    text = "L = alpha * (1 / D + C)^p"
    needs = (TOKENS, LOSS)


@dataclasses.dataclass(frozen=True)
class Ghorbani(FormulaLaw):
    """Ghorbani et al. 2021, arXiv 2109.07740, eq. 1: encoder and decoder of different sizes."""

    name = "ghorbani"
    text = "L = E + A / (Ne^p_e * Nd^p_d)"
    needs = (ENCODER_PARAMS, DECODER_PARAMS, LOSS)

    def summary(self, result: Mapping[str, Any]) -> list[str]:
        """Returns the best share of the encoder, p_e / (p_e + p_d) whatever the size of both together."""
        p = result["parameters"]
        return [f"best share of the encoder: {p['p_e'] / (p['p_e'] + p['p_d']):.3f} of the parameters of both"]


@dataclasses.dataclass(frozen=True)
class Clark(FormulaLaw):
    """Clark et al. 2022, arXiv 2202.01169, eqs. 4 and 5: routed models of X experts, whose use saturates."""

    name = "clark"
    text = (
        "L = 10^(a * log10(N) + d - (b + c * log10(N)) * log10(1 / (X - 1 + 1 / (1 / X_start - 1 / X_max))"
        " + 1 / X_max))"
    )
    needs = (PARAMS, EXPERTS, LOSS)
    free = ("a", "b", "c", "d")
    starts: ClassVar = {"X_start": (1.1, 2.0, 4.0), "X_max": (100.0, 300.0, 1000.0)}
    delta = math.inf


@dataclasses.dataclass(frozen=True)
class Krajewski(FormulaLaw):
    """Krajewski et al. 2024, arXiv 2402.07871, eq. 9: mixtures of experts of a granularity G."""

    name = "krajewski"
    text = "L = c + (g / G^gamma + a) / N^alpha + b / D^beta"
    needs = (PARAMS, TOKENS, GRANULARITY, LOSS)
    delta = 0.1


@dataclasses.dataclass(frozen=True)
class Tao(FormulaLaw):
    """Tao et al. 2024, arXiv 2407.13623, section 3.3: the loss less that of unigrams, which may be negative."""

    name = "tao"
    text = "L = -E + A_1 / Nnv^alpha_1 + A_2 / Nv^alpha_2 + B / D^beta"
    needs = (OTHER_PARAMS, VOCABULARY_PARAMS, TOKENS, dataclasses.replace(LOSS, positive=False))
    log_target = False


@dataclasses.dataclass(frozen=True)
class Ruan(FormulaLaw):
    """Ruan et al. 2024, arXiv 2405.10938: accuracy against the logarithm of compute, from guessing to a ceiling."""

    name = "ruan"
    text = "accuracy = floor + (1 - floor) * height * sigmoid(k * (log10(C) - middle))"
    needs = (dataclasses.replace(FLOPS, several=False), ACCURACY)
    free = ("middle",)
    bounds: ClassVar = {"floor": (0.0, 1.0), "height": (0.0, 1.0)}
    starts: ClassVar = {"k": (0.5, 1.0, 2.0, 4.0), "floor": (0.01, 0.1, 0.25, 0.5), "height": (0.5, 0.8, 0.95)}
    log_target = False
    delta = 0.01


@dataclasses.dataclass(frozen=True)
class BrokenPower(FormulaLaw):
    """Caballero et al. 2022, arXiv 2210.14891, eq. 1, of one break: the exponent changes by `change` about `knee`."""

    name = "broken_power"
    text = "L = E + A / x^alpha * (1 + (x / knee)^(1 / width))^(-change * width)"
    needs = (dataclasses.replace(X, several=False), LOSS)
    free = ("change",)
    starts: ClassVar = {"width": (0.1, 0.3, 1.0), "change": (-0.3, -0.1, 0.1, 0.3)}


NAMED_FORMULAS = (Kaplan, Gadre, GadreError, Bansal, Ghorbani, Clark, Krajewski, Tao, Ruan, BrokenPower)
