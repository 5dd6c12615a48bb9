"""Images a second, from disk to a batch: prepared films beside full-size JPEGs.

  python tests/benchmarks/stream.py [--folder=DIR] [--films=1024] [--jpegs=48]

Films are composed at the encoder's size; the JPEGs are the same films at the size and
quality of MIMIC-CXR-JPG, read as the published code does: PIL, RGB, bicubic, crop,
normalisation, in torch's DataLoader. One run, one machine: the ratio is the figure.
"""

import argparse
import io
import pathlib
import tempfile
import time
import warnings
import zlib

import numpy as np
from PIL import Image

from data_pipelines import film_store, images, loader, records
from data_pipelines.films import Films
from data_pipelines.raw import shards
from data_pipelines.thorax import examples

SIZE, BATCH = 518, 32
FULL = (2544, 3056)  # Width and height of most films of MIMIC-CXR-JPG.
DISTINCT = 12
WORKERS = (1, 2, 4)


class Records:
  """Records whose films are in a store, and nothing else is in them."""

  def __init__(self, films):
    self._films = films
    empty = {name: "" for name, (dtype, _) in records.FIELDS.items() if dtype is str}
    labels = np.full(len(records.LABELS), records.UNMENTIONED, np.int8)
    self._rest = empty | {"view": "PA", "prior": -1, "labels": labels}

  def __len__(self):
    return len(self._films)

  def __getitem__(self, index):
    own = {"id": str(index), "image": self._films[index]}
    return self._rest | {"patient_id": str(index), "study_id": str(index)} | own


def composed():
  """A few films at the encoder's size, with the noise of a detector."""
  jobs = (examples.Job(number, SIZE, 0, "") for number in range(DISTINCT))
  return [examples.records_of(job)[0]["image"] for job in jobs]


def write_jpegs(films, folder, count):
  folder.mkdir()
  rng = np.random.default_rng(0)
  for number in range(count):
    large = Image.fromarray(films[number % len(films)].squeeze()).resize(FULL)
    noisy = np.asarray(large, np.int16) + rng.normal(0, 3, FULL[::-1]).round()
    picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    picture.save(folder / f"{number:05d}.jpg", quality=95)
  return sorted(folder.iterdir())


def rate(batches, count):
  """Images a second, the first batch, at which everything starts, left out."""
  batches = iter(batches)
  next(batches)
  start = time.perf_counter()
  done = sum(len(next(batches)) for _ in range(count))
  return done / (time.perf_counter() - start)


def of_stream(store, workers, to_device):
  import jax  # Only now: torch has forked its workers by then.

  films = Films(Records(store), image_size=SIZE, views=("PA", "unk"))
  stream = loader.train_stream(films, batch_size=BATCH, seed=0, num_threads=workers)

  def batches():
    for batch in stream:
      image = batch["image"]
      yield jax.block_until_ready(jax.device_put(image)) if to_device else image

  return rate(batches(), 2 * len(store) // BATCH - 1)


def of_preparation(paths, folder):
  """Films a second, from full-size JPEGs to a shard."""
  sources = [(str(number), path.name) for number, path in enumerate(paths)]
  start = time.perf_counter()
  shards.prepare(sources, paths[0].parent, folder, shards.Recipe(SIZE), workers=1)
  return len(sources) / (time.perf_counter() - start)


def of_torch(paths, workers):
  """The published way; `workers` processes."""
  import torch

  warnings.filterwarnings("ignore", "This DataLoader will create")  # More than cores.

  class Jpegs(torch.utils.data.Dataset):
    def __len__(self):
      return len(paths) * 8

    def __getitem__(self, index):
      with Image.open(paths[index % len(paths)]) as image:
        image = image.convert("RGB")
      width, height = image.size
      short = min(width, height)
      image = image.resize(
        (SIZE * width // short, SIZE * height // short), Image.Resampling.BICUBIC
      )
      left, top = (image.size[0] - SIZE) // 2, (image.size[1] - SIZE) // 2
      image = image.crop((left, top, left + SIZE, top + SIZE))
      pixels = np.asarray(image, np.float32) / 255
      pixels = (pixels - images.MEAN) / images.STD
      return torch.from_numpy(pixels.transpose(2, 0, 1).copy())

  batch = max(2, BATCH // 4)
  data = torch.utils.data.DataLoader(
    Jpegs(), batch_size=batch, shuffle=True, num_workers=workers
  )
  return rate(data, max(4, len(paths) // batch))


def side_by_side(films, folder):
  """Bytes a film on disk, and films a second that one thread reads, by encoding."""
  png = lambda image: _png(image)
  kinds = {
    "PNG": (png, lambda data: np.asarray(Image.open(io.BytesIO(data)))),
    "zlib": (
      lambda image: zlib.compress(image.tobytes()),
      lambda data: np.frombuffer(zlib.decompress(data), np.uint8),
    ),
  }
  for name, (encode, decode) in kinds.items():
    data = [encode(film) for film in films]
    start = time.perf_counter()
    for _ in range(4):
      for one in data:
        decode(one)
    spent = (time.perf_counter() - start) / (4 * len(data))
    yield name, np.mean([len(one) for one in data]), 1 / spent
  for name in film_store.ENCODINGS:
    store = make_store(films, folder / f"few-{name}", len(films), name)
    start = time.perf_counter()
    for _ in range(4):
      for number in range(len(store)):
        store[number]
    spent = (time.perf_counter() - start) / (4 * len(store))
    yield name, size_of(folder / f"few-{name}") / len(store), 1 / spent


def _png(image):
  buffer = io.BytesIO()
  Image.fromarray(image.squeeze()).save(buffer, "PNG")
  return buffer.getvalue()


def make_store(films, folder, count, encoding):
  """A store of `count` films: the few, each time moved a pixel, so that none recurs."""
  sources = folder.with_name(f"{folder.name}-sources")
  sources.mkdir(parents=True)
  for number in range(count):
    film = np.roll(films[number % len(films)], number // len(films), axis=1)
    (sources / f"{number}.png").write_bytes(_png(film))
  shards.prepare(
    [(str(number), f"{number}.png") for number in range(count)],
    sources,
    folder,
    shards.Recipe(SIZE, encoding),
    workers=1,
  )
  return film_store.FilmStore(folder)


def size_of(folder):
  return sum(path.stat().st_size for path in folder.glob("*.array_record"))


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--folder", help="where to write; a temporary one by default")
  parser.add_argument("--films", type=int, default=1024)
  parser.add_argument("--jpegs", type=int, default=48)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory(dir=args.folder) as folder:
    folder = pathlib.Path(folder)
    films = composed()
    print(f"{'encoding':>9} {'kB a film':>10} {'films/s, one thread':>20}")
    for name, size, speed in side_by_side(films, folder):
      print(f"{name:>9} {size / 1e3:10.0f} {speed:20.0f}")
    paths = write_jpegs(films, folder / "jpegs", args.jpegs)
    size = np.mean([path.stat().st_size for path in paths])
    print(f"\n{'full JPEG':>9} {size / 1e3:10.0f}")
    speed = of_preparation(paths, folder / "prepared")
    print(f"\none process prepares {speed:.1f} full-size JPEGs a second")
    stores = {
      name: make_store(films, folder / name, args.films, name)
      for name in film_store.ENCODINGS
    }
    print(f"\nimages/s  {'workers':>24}" + "".join(f" {n:8}" for n in WORKERS))
    told = lambda name, rates: print(
      f"{name:>34}" + "".join(f" {rate:8.1f}" for rate in rates), flush=True
    )
    jpegs = [of_torch(paths, workers) for workers in WORKERS]
    told("torch, full JPEGs, to batch", jpegs)
    best = {}
    for name, store in stores.items():
      for to_device, end in ((False, "batch"), (True, "device")):
        rates = [of_stream(store, workers, to_device) for workers in WORKERS]
        told(f"{name} films, to {end}", rates)
        best[name, end] = max(rates)
    ratio = best["packed", "batch"] / max(jpegs)
    print(f"\nbest of each: packed films are read {ratio:.0f} times as fast as JPEGs")


if __name__ == "__main__":
  main()
