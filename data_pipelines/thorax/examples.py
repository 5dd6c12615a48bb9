"""Patients as records: image, text and truth of every view of every study.

`python -m data_pipelines.thorax.examples` is the worker that the builder starts: it
reads jobs from stdin and writes their records to stdout, both pickled. Processes of
our own, and not multiprocessing's, since those run the caller's script again.
"""

import dataclasses
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from queue import Queue

from data_pipelines import records
from data_pipelines.thorax import patients, radiograph, reports
from data_pipelines.thorax.patients import Study

AHEAD = 16  # Patients that a worker may be ahead of the reader.


@dataclasses.dataclass(frozen=True)
class Job:
  """One patient to make; with a `finding`, one study that shows nothing else."""

  patient: int
  size: int
  seed: int
  finding: str = ""

  def studies(self) -> tuple[Study, ...]:
    if self.finding:
      single = patients.single_finding_study
      return (single(self.patient, self.finding, seed=self.seed),)
    return patients.studies_of(self.patient, seed=self.seed)


def _prior(view: str, rows: dict[str, int]) -> tuple[int, str]:
  """Row and view of the prior image: the same view, else the frontal one."""
  if not rows:
    return -1, ""
  chosen = view if view in rows else next(iter(rows))
  return rows[chosen], chosen


def records_of(job: Job) -> list[dict]:
  """The records of a patient, in order of time; `prior` counts from the first."""
  out, before, prior_report = [], {}, ""
  for study in job.studies():
    report = reports.write(study, seed=job.seed)
    patient_id = f"p{study.patient:07d}"
    study_id = f"s{study.patient:07d}{study.number}"
    now = {}
    for view in study.views:
      prior, prior_view = _prior(view, before)
      now[view] = len(out)
      image = radiograph.compose(
        study.patient,
        study.findings,
        view,
        study=study.number,
        seed=job.seed,
        size=job.size,
      )
      out.append(
        {
          "id": f"{patient_id}_{study_id}_{view.lower()}",
          "patient_id": patient_id,
          "study_id": study_id,
          "study_time": study.time.isoformat(timespec="seconds"),
          "view": view,
          "image": image[..., None],
          "prior": prior,
          "prior_view": prior_view,
          "prior_report": prior_report,
          "indication": study.indication,
          "history": study.history,
          "findings": report.findings,
          "impression": report.impression,
          "labels": patients.labels_of(study.facts),
          "truth": records.dump_facts(study.facts),
        }
      )
    before, prior_report = now, report.findings
  return out


class _Worker:
  """A process that makes the records of its jobs, in order."""

  def __init__(self, jobs: Sequence[Job]):
    self._jobs = iter(jobs)
    path = os.pathsep.join(filter(None, sys.path))
    # One thread each: there are as many workers as cores.
    single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    self._process = subprocess.Popen(
      [sys.executable, "-m", "data_pipelines.thorax.examples"],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      env=os.environ | single | {"PYTHONPATH": path},
    )
    pickle.dump(list(jobs), self._process.stdin)
    self._process.stdin.close()
    self._queue = Queue(AHEAD)
    threading.Thread(target=self._receive, args=(len(jobs),), daemon=True).start()

  def _receive(self, count: int) -> None:
    try:
      for _ in range(count):
        self._queue.put(pickle.load(self._process.stdout))
    except (EOFError, pickle.UnpicklingError, OSError, ValueError):
      self._queue.put(None)

  def next(self) -> list[dict]:
    """The next job's records; RuntimeError where the process has died."""
    job = next(self._jobs)
    made = self._queue.get()
    if made is None:
      code = self._process.wait()
      raise RuntimeError(
        f"Worker ended with status {code} at thorax patient {job.patient}: see above; "
        "status -9 is most likely lack of memory, so try fewer workers."
      )
    return made

  def stop(self) -> None:
    self._process.kill()
    self._process.wait()


def generate(jobs: Sequence[Job], num_workers: int) -> Iterator[list[dict]]:
  """The records of each job, in the order of the jobs for any number of workers."""
  num_workers = min(num_workers, len(jobs))
  if num_workers <= 1:
    yield from map(records_of, jobs)
    return
  workers = [_Worker(jobs[i::num_workers]) for i in range(num_workers)]
  try:
    for i in range(len(jobs)):
      yield workers[i % num_workers].next()
  finally:
    for worker in workers:
      worker.stop()


def _work() -> None:
  for job in pickle.load(sys.stdin.buffer):
    pickle.dump(records_of(job), sys.stdout.buffer, pickle.HIGHEST_PROTOCOL)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
  try:
    _work()
  except BrokenPipeError:  # The builder was killed.
    os._exit(1)
