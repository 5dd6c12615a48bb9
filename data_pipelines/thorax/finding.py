"""What one study shows: the unit that patients.py plans and radiograph.py draws."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
  """One finding or device in one study.

  `side` is left, right or "" where the finding has none; `location` is the lobe
  (upper, middle, lower; middle on the right only) or "" where it has none.
  `severity` is uniform in 0..1 (mild < 1/3 <= moderate < 2/3 <= severe).  `seed`
  fixes position and texture over a patient's studies, so that the finding only
  grows or shrinks.
  """

  name: str
  side: str = ""
  location: str = ""
  severity: float = 0.0
  seed: int = 0
