"""Date and time as MIMIC-CXR's tables write them."""

import datetime
import re

_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})(?:\.0*)?")
_TIME = re.compile(r"([0-9]{1,6})(?:\.[0-9]*)?")  # HHMMSS.fff, as a number.


def iso(date: str, time: str) -> str:
  """ISO 8601 to the second. Raises ValueError that says in two words what is wrong."""
  if not date:
    raise ValueError("date missing")
  try:
    day = datetime.date(*map(int, _DATE.fullmatch(date).groups()))
  except (AttributeError, ValueError):
    raise ValueError("date impossible") from None
  if not time:
    raise ValueError("time missing")
  try:
    # As a number it has lost its leading zeros: 4135.5 is 00:41:35.
    clock = _TIME.fullmatch(time)[1].zfill(6)
    moment = datetime.time(int(clock[:2]), int(clock[2:4]), int(clock[4:]))
  except (TypeError, ValueError):
    raise ValueError("time impossible") from None
  return datetime.datetime.combine(day, moment).isoformat()
