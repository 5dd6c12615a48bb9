"""What an experiment gives, and the files that it is told by."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from data_pipelines import files
from jaxrg.experiments import picture
from jaxrg.metrics import predictions, rendering


@dataclasses.dataclass(frozen=True)
class Outcome:
  """The scores of an experiment, as tables and as points of a picture."""

  summary: Mapping[str, Any]  # All of it, for JSON.
  tables: Sequence[rendering.Table]
  panels: Sequence[picture.Panel]
  page: str = ""  # HTML, of experiments that have one.

  def write(self, folder: epath.Path) -> str:
    """Writes table.txt, picture.png, page.html and summary.json; the tables as text."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join(map(rendering.render, self.tables))
    files.write(folder / "table.txt", text + "\n")
    figure = picture.draw(self.summary["question"], self.panels)
    files.write(folder / "picture.png", picture.png(figure))
    if self.page:
      predictions.write_private(folder / "page.html", self.page)
    files.write(folder / "summary.json", json.dumps(self.summary, indent=2) + "\n")
    return text


def facts(experiment: Any, base: Any) -> dict[str, str]:
  """What every summary begins with: the question, and of what it is asked."""
  return {
    "experiment": experiment.name,
    "question": experiment.question,
    "data": base.data.name,
    "config": f"{base.paper}:{base.variant}",
  }
