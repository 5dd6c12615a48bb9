from pathlib import Path

from setuptools import find_packages, setup

# Floors, not pins: Python 3.11 gets jax 0.10, Python 3.12 gets jax 0.12.
REQUIRED = (
  "absl-py",
  "array-record>=0.8",
  "etils[epath]",
  "flatbuffers>=24",  # What jax serialises programs with.
  "flax>=0.12",
  "grain>=0.2.16",
  "huggingface_hub>=0.26",
  "jax>=0.9",
  "jaxtyping>=0.3",
  "jraph>=0.0.6.dev0",
  "matplotlib>=3.8",
  "ml-collections>=1.0",
  "ml-dtypes",
  "numpy>=2",
  "optax>=0.2.6",
  "orbax-checkpoint>=0.12",
  "pillow>=10",
  "safetensors>=0.4",
  "scipy>=1.11",
  "tensorboardX>=2.6",
  "tensorflow-datasets>=4.9.8",
  "tokenizers>=0.20",
  "tqdm",
  "transformers>=4.46",
)

# Reads PyTorch's own files; in the tests its classes are what ours are compared with.
TORCH = "torch==2.13.0"

# The codecs of DICOM's compressed syntaxes. Never pylibjpeg-libjpeg, which is GPL.
DICOM = ("pydicom>=3", "python-gdcm>=3", "pylibjpeg-openjpeg>=2")

# Ships the photographs that natural images are cut from.
PHOTOGRAPHS = "scikit-image>=0.22"

setup(
  name="jaxrg",
  version="0.1.0",
  description="Chest X-ray report generation in JAX: PriorRG and EIR",
  long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  packages=find_packages(include=["jaxrg*", "data_pipelines*"]),
  package_data={
    "jaxrg": ["*.html", "gpt2/*", "workers/*.py"],
    "data_pipelines.thorax": ["*.npz"],
  },
  python_requires=">=3.11",
  install_requires=REQUIRED,
  extras_require={
    "test": (
      "beartype",
      "hypothesis",
      "pycocoevalcap==1.2",
      "pydicom-data",
      "pytest>=8",
      "ruff",
      PHOTOGRAPHS,
      TORCH,
      *DICOM,
    ),
    "tpu": ("jax[tpu]>=0.9",),
    "gpu": ("jax[cuda13]>=0.9",),
    "plan": ("libtpu",),  # Compiles for TPUs that are not there.
    "dicom": DICOM,
    "convert": (TORCH,),
    "natural": (PHOTOGRAPHS,),
    "coco": ("pycocoevalcap==1.2",),  # Its METEOR runs GPL jars.
  },
)
