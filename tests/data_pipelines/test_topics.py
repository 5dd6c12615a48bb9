"""Which topics there are, and what a record says of each."""

import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines import records, topics
from data_pipelines.topics import Topics

# As the header of MIMIC-CXR's CheXpert file has them.
MIMIC = (
  "Atelectasis",
  "Cardiomegaly",
  "Consolidation",
  "Edema",
  "Enlarged Cardiomediastinum",
  "Fracture",
  "Lung Lesion",
  "Lung Opacity",
  "No Finding",
  "Pleural Effusion",
  "Pleural Other",
  "Pneumonia",
  "Pneumothorax",
  "Support Devices",
)

PHRASES = {
  "No pneumothorax.": ("no pneumothorax",),
  "There is no pleural effusion or pneumothorax.": (
    "no pleural effusion",
    "pneumothorax",
  ),
  "The heart size is within normal limits.": ("heart size", "normal limits"),
  "The heart is normal in size.": ("heart", "size"),
  "Heart size normal, lungs clear.": ("heart size", "lungs"),
  "PA view compared to prior.": ("pa view",),
  "PA and lateral views.": ("lateral views",),
  "There is a rib fracture on the left, moderately displaced and new.": (
    "rib fracture",
  ),
  "Both lungs are well expanded.": ("lungs",),
  "Severe cardiomegaly is unchanged.": ("severe cardiomegaly",),
  "Lungs clear no effusion": ("lungs", "no effusion"),
  "No acute or chronic fracture.": ("chronic fracture",),
  "Mildly enlarged heart.": ("enlarged heart",),
  "Stable right-sided port.": ("stable right-sided port",),
  "No new focal airspace consolidation.": ("new focal airspace consolidation",),
  "A 2 cm nodule at T12, <unk> lobe.": ("cm nodule", "lobe"),
  "Nodule of ___ mm, XXXX lobe.": ("lobe", "mm", "nodule"),
  "Pleural  thickening;\tapical\nscarring.": ("apical scarring", "pleural thickening"),
  "Linear scar.": ("linear scar",),
  "The patient's chin obscures the apices.": ("apices", "patient's chin"),
  "The opacity is no longer seen.": ("opacity",),
  "Unchanged. Clear. No.": (),
}

# Pneumothorax stands in three of these, heart and no effusion in two, others in one.
REPORTS = (
  "No effusion. There is a pneumothorax. Pneumothorax is large. A large pneumothorax.",
  "The pneumothorax is small. The heart is normal in size.",
  "Heart size: normal. Heart size, Heart size. There is no effusion or pneumothorax.",
  "The heart is large.",
)
RANKED = (
  "pneumothorax",
  "heart",
  "no effusion",
  "heart size",
  "large pneumothorax",
  "size",
)


def record(findings="", **labels):
  """A record of these findings and labels; the other labels are unmentioned."""
  values = dict.fromkeys(records.LABELS, records.UNMENTIONED)
  values |= {name.replace("_", " "): value for name, value in labels.items()}
  return {"findings": findings, "labels": np.array(list(values.values()), np.int8)}


def test_labels_are_in_the_order_of_the_mimic_file():
  assert topics.LABELS == MIMIC
  assert set(MIMIC) == set(records.LABELS)
  assert MIMIC != records.LABELS


@pytest.mark.parametrize(("text", "wanted"), PHRASES.items())
def test_noun_phrases_of_a_report(text, wanted):
  assert topics.mine([text], len(wanted)) == wanted
  with pytest.raises(ValueError, match=f"findings hold {len(wanted)}:"):
    topics.mine([text], len(wanted) + 1)


def test_phrases_are_ranked_by_reports_and_ties_by_the_alphabet():
  assert topics.mine(REPORTS, len(RANKED)) == RANKED


@pytest.mark.parametrize("count", range(len(RANKED)))
def test_fewer_phrases_are_the_first_ones(count):
  assert topics.mine(REPORTS, count) == RANKED[:count]


def test_mining_does_not_depend_on_the_order_of_reports():
  for seed in range(8):
    shuffled = random.Random(seed).sample(REPORTS, len(REPORTS))
    assert topics.mine(iter(shuffled), len(RANKED)) == RANKED


def test_more_phrases_than_there_are_name_the_key_and_the_number():
  message = (
    "config.model.num_topics=21 is 14 labels and 7 noun phrases, but the training "
    "findings hold 6: set it to 20 or less."
  )
  with pytest.raises(ValueError) as info:
    topics.mine(REPORTS, 7)
  assert str(info.value) == message
  assert len(topics.mine(REPORTS, 20 - len(MIMIC))) == 6


def test_fewer_topics_than_labels_name_the_key():
  with pytest.raises(ValueError, match=r"num_topics must be at least 14, .* got 13\."):
    topics.mine(REPORTS, -1)


def test_names_are_labels_then_phrases():
  assert Topics().names == MIMIC
  assert Topics(phrases=RANKED).names == MIMIC + RANKED


@pytest.mark.parametrize(
  ("num_states", "present", "absent", "uncertain", "unmentioned"),
  [(2, 1, 0, 1, 0), (4, 1, 0, 2, 3)],
)
def test_states_of_labels(num_states, present, absent, uncertain, unmentioned):
  study = record(
    Edema=records.PRESENT,
    Pneumothorax=records.ABSENT,
    Lung_Opacity=records.UNCERTAIN,
  )
  states = Topics(phrases=("lungs",)).states(study, num_states)
  assert (states.dtype, states.shape) == (np.int32, (15,))
  wanted = dict.fromkeys(MIMIC, unmentioned)
  wanted |= {"Edema": present, "Pneumothorax": absent, "Lung Opacity": uncertain}
  assert dict(zip(MIMIC, states)) == wanted


@pytest.mark.parametrize("label", records.LABELS)
def test_a_label_sets_its_own_state_alone(label):
  study = record(**{label: records.PRESENT})
  assert Topics().states(study, 2).nonzero()[0].tolist() == [MIMIC.index(label)]


def test_states_follow_the_order_of_the_labels_they_are_of():
  study = record(Edema=records.PRESENT)
  backwards = Topics(labels=MIMIC[::-1]).states(study, 4)
  np.testing.assert_array_equal(backwards[::-1], Topics().states(study, 4))


@pytest.mark.parametrize("num_states", [2, 4])
@pytest.mark.parametrize(
  ("findings", "wanted"),
  [
    ("There is no pneumothorax.", [1, 1, 0, 0]),  # No negation is understood.
    ("Hydropneumothorax.", [1, 0, 0, 0]),  # Nor where a word begins.
    ("NO\n  Pneumothorax", [1, 1, 0, 0]),
    ("Both lungs; the lung\tbases.", [0, 0, 1, 1]),
    ("Lung, bases.", [0, 0, 1, 0]),
    ("", [0, 0, 0, 0]),
  ],
)
def test_a_phrase_is_looked_for_as_it_is(findings, wanted, num_states):
  phrases = ("pneumothorax", "no pneumothorax", "lung", "lung bases")
  states = Topics(phrases=phrases).states(record(findings), num_states)
  assert states[len(MIMIC) :].tolist() == wanted


@pytest.mark.parametrize("num_states", [0, 1, 3])
def test_another_number_of_states_names_the_key(num_states):
  message = f"config.model.num_states must be 2 or 4, got {num_states}."
  with pytest.raises(ValueError) as info:
    Topics().states(record(), num_states)
  assert str(info.value) == message


TEXTS = st.text() | st.lists(
  st.sampled_from(
    ["no", "the", "lungs", "clear", "left", "is", "mildly", "İ", "_", "T4", ",", "\n"]
  )
).map(" ".join)


@given(st.lists(TEXTS, max_size=4))
def test_a_mined_phrase_is_found_wherever_it_stands(texts):
  """Whatever the text: nothing raises, and no topic is one that never fires."""
  of_each = [set(topics._phrases(text)) for text in texts]
  count = len(set().union(*of_each))
  found = Topics(phrases=topics.mine(texts, count))
  for text, own in zip(texts, of_each):
    states = dict(zip(found.names, found.states(record(text), 2)))
    assert all(states[phrase] for phrase in own)
  for phrase in found.phrases:
    assert 1 <= len(phrase.split()) <= topics.MAX_WORDS


@pytest.mark.parametrize(
  "original",
  [Topics(), Topics(phrases=RANKED), Topics(labels=MIMIC[::-1], phrases=("élargi",))],
)
def test_topics_survive_a_file(original):
  assert Topics.from_json(original.to_json()) == original


def damaged(**changes):
  return json.dumps({"labels": list(MIMIC), "phrases": ["lungs", "heart"]} | changes)


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "Topics are no JSON: "),
    (damaged()[:-4], "Topics are no JSON: "),
    ("[" * 100_000, "Topics are no JSON: "),
    ("[]", "Topics need the keys labels and phrases, and no others."),
    ('{"labels": []}', "Topics need the keys labels and phrases, and no others."),
    (damaged(names=[]), "Topics need the keys labels and phrases, and no others."),
    (damaged(phrases="lungs"), "The phrases of topics must be a list of texts."),
    (damaged(labels=[1, 2]), "The labels of topics must be a list of texts."),
    (damaged(labels=MIMIC[:-1]), "missing: ['Support Devices'], too many: []."),
    (damaged(labels=(*MIMIC, "Ede\nma")), r"missing: [], too many: ['Ede\nma']."),
    (damaged(labels=(*MIMIC, "Edema")), "missing: [], too many: ['Edema']."),
    (damaged(phrases=["lungs", "lungs"]), "phrase 'lungs' more than once."),
    (damaged(phrases=["Lungs"]), "phrase 'Lungs', which no report can"),
    (damaged(phrases=["lung  bases"]), "phrase 'lung  bases', which no report can"),
    (damaged(phrases=[""]), "phrase '', which no report can"),
  ],
)
def test_damaged_topics_are_refused_in_one_line(text, message):
  with pytest.raises(ValueError) as info:
    Topics.from_json(text)
  assert message in str(info.value)
  assert "\n" not in str(info.value)


@given(st.text() | st.builds(damaged, phrases=st.lists(st.text())))
def test_any_other_text_is_refused_or_read(text):
  refused = ""
  try:
    read = Topics.from_json(text)
  except ValueError as error:
    refused = str(error)
  else:
    assert Topics.from_json(read.to_json()) == read
  assert "\n" not in refused
