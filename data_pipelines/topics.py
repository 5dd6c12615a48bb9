"""What a classifier of reports is asked: fourteen labels and frequent noun phrases.

Phrases are mined from training reports without a model of language: a phrase is what
stands between function words, verbs, adverbs and punctuation, and ends in a noun. A
"no" before it is part of it, for "no effusion" and "effusion" are two topics.
"""

import collections
import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from data_pipelines import records

# The order of MIMIC-CXR's file of labels, which is that of the alphabet.
LABELS = tuple(sorted(records.LABELS))
MAX_WORDS = 4  # Of a longer phrase, the last ones: its head is at the end.

# Number of states -> what the state of a label is.
_STATES = {
  2: {
    records.ABSENT: 0,
    records.UNMENTIONED: 0,
    records.PRESENT: 1,
    records.UNCERTAIN: 1,
  },
  4: {
    records.ABSENT: 0,
    records.PRESENT: 1,
    records.UNCERTAIN: 2,
    records.UNMENTIONED: 3,
  },
}

_TOKEN = re.compile(r"[\w'<>-]+|\S")
# What has digits or is a placeholder (___, <unk>) is no word of a phrase.
_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
_ADVERB = re.compile(r".+(?<!mega)(?<!noma)ly")  # But cardiomegaly, anomaly.
# No phrase ends in these: "heart size normal" is of the heart size.
_ADJECTIVE = re.compile(r"(?!scar$).+(al|ac|ic|ar|ary|ous|ed|ive|able|ible|ior)")
_ADJECTIVES = """
  absent acute ap clear consistent dense diffuse dominant early evident faint fine free
  hazy high intact large larger late left less little longer low lower mid middle mild
  minor moderate more most new no old pa patchy present prior prominent right severe
  sharp significant slight small smaller streaky subtle thin top trace upper wide worse
"""
# Function words, verbs, and what Open-I has in place of a name.
_BETWEEN = """
  a an the this that these those there here it its they their which who whose what we i
  and or but nor plus versus vs without not than then as if when while whereas although
  though however of in on at by to from for into within with near over under above below
  between along across through throughout about around after before during since until
  per via up down out off due also again still now only very too otherwise both either
  neither each any some all other such same so yet well

  be is are was were been being am has have had having do does did done can could may
  might must shall should will would cannot appear appears become becomes consist
  consists lie lies end ends enter enters extend extends terminate terminates project
  projects remain remains show shows reveal reveals demonstrate demonstrates suggest
  suggests suggesting represent represents representing reflect reflects reflecting
  indicate indicates indicating obscure obscures obscuring overlie overlies measure
  measures measuring seen shown given made gone grown taken begun see note compare

  xxxx
"""
_NEVER_LAST, _NEVER_IN = map(frozenset, (_ADJECTIVES.split(), _BETWEEN.split()))


@dataclasses.dataclass(frozen=True)
class Topics:
  """The topics of a run, in the order of a classifier's rows: labels, then phrases.

  Raises ValueError unless the labels are the fourteen, each once, in any order, and
  the phrases are distinct and written as reports are searched (spec eir 6.1).
  """

  labels: tuple[str, ...] = LABELS
  phrases: tuple[str, ...] = ()

  def __post_init__(self):
    own, known = map(collections.Counter, (self.labels, LABELS))
    if own != known:
      raise ValueError(
        f"Topics need the {len(LABELS)} labels of records.LABELS, each once; missing: "
        f"{[*known - own]}, too many: {[*own - known]}."
      )
    if len(set(self.phrases)) < len(self.phrases):
      twice = collections.Counter(self.phrases).most_common(1)[0][0]
      raise ValueError(f"The topics hold the phrase {twice!r} more than once.")
    for phrase in self.phrases:
      if not phrase or phrase != _normal(phrase):
        raise ValueError(
          f"The topics hold the phrase {phrase!r}, which no report can: a phrase has "
          "lower-case words, one space between two."
        )

  @property
  def names(self) -> tuple[str, ...]:
    """What the topics are called; a phrase is in lower case, a label is not."""
    return self.labels + self.phrases

  def states(self, record: Mapping[str, Any], num_states: int) -> np.ndarray:
    """What a record's labels and findings say of each topic: int32 (n,).

    Of two states, 1 is a label present or uncertain; of four, a label is 0 absent,
    1 present, 2 uncertain or 3 unmentioned. A phrase is 1 where the findings hold its
    letters, whatever is before or after them: "pneumothorax" is in "no pneumothorax".
    Raises ValueError, naming the key of a config, for another `num_states`.
    Source: spec eir 6.1.
    """
    check(len(self.names), num_states)
    values = dict(zip(records.LABELS, record["labels"], strict=True))
    text = _normal(record["findings"])
    of_labels = [_STATES[num_states][int(values[label])] for label in self.labels]
    of_phrases = [int(phrase in text) for phrase in self.phrases]
    return np.array(of_labels + of_phrases, np.int32)

  def to_json(self) -> str:
    """The content of a JSON file."""
    return json.dumps(dataclasses.asdict(self), indent=2)

  @classmethod
  def from_json(cls, text: str) -> "Topics":
    """What `to_json` gave; raises ValueError for any other text."""
    try:
      lists = json.loads(text)
    except (ValueError, RecursionError) as error:
      raise ValueError(f"Topics are no JSON: {error}.") from error
    keys = [field.name for field in dataclasses.fields(cls)]
    if not isinstance(lists, dict) or sorted(lists) != sorted(keys):
      raise ValueError(f"Topics need the keys {' and '.join(keys)}, and no others.")
    for key, names in lists.items():
      if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise ValueError(f"The {key} of topics must be a list of texts.")
    return cls(**{key: tuple(names) for key, names in lists.items()})


def check(num_topics: int, num_states: int = 2) -> None:
  """Raises ValueError, naming the key of a config, for what no topics can be."""
  if num_states not in _STATES:
    raise ValueError(f"config.model.num_states must be 2 or 4, got {num_states}.")
  if num_topics < len(LABELS):
    raise ValueError(
      f"config.model.num_topics must be at least {len(LABELS)}, as many as there are "
      f"labels, got {num_topics}."
    )


def mine(findings: Iterable[str], count: int) -> tuple[str, ...]:
  """The `count` noun phrases that most reports hold, ties in alphabetical order.

  A report counts for a phrase that stands there by itself, not within a longer one;
  `findings` has one text a study, of the training split alone. Raises ValueError,
  naming the key of a config, for a negative count and for more phrases than there are.
  Source: spec eir 6.1.
  """
  check(len(LABELS) + count)
  reports = collections.Counter()
  for text in findings:
    reports.update(set(_phrases(text)))
  if len(reports) < count:
    raise ValueError(
      f"config.model.num_topics={len(LABELS) + count} is {len(LABELS)} labels and "
      f"{count} noun phrases, but the training findings hold {len(reports)}: set it to "
      f"{len(LABELS) + len(reports)} or less."
    )
  ranked = sorted(reports, key=lambda phrase: (-reports[phrase], phrase))
  return tuple(ranked[:count])


def _normal(text: str) -> str:
  return " ".join(text.lower().split())


def _phrases(text: str) -> Iterable[str]:
  """The noun phrases of a report, as they stand in its normal form."""
  run: list[str] = []
  for token in [*_TOKEN.findall(_normal(text)), "."]:
    ends = token in _NEVER_IN or not _WORD.fullmatch(token) or _ADVERB.fullmatch(token)
    if ends or token == "no":
      while run and (run[-1] in _NEVER_LAST or _ADJECTIVE.fullmatch(run[-1])):
        run.pop()
      if run:
        yield " ".join(run[-MAX_WORDS:])
      run = []
    if not ends:
      run.append(token)
