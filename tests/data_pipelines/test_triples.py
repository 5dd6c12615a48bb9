"""The rules on invented sentences in the style of real reports."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_pipelines import findings
from data_pipelines.triples import (
  RELATIONS,
  RULES,
  Triple,
  annotate,
  extract,
  from_bytes,
  lexicon,
  of_reports,
  to_bytes,
  triples_of,
)

_STATUS = {"-": "absent", "?": "uncertain"}
_RELATION = {">": "modify", "@": "located_at", "~": "suggestive_of"}

# Sentence | its triples in their order: > is modify, @ is located_at, ~ is
# suggestive_of; an end marked - is absent, one marked ? is uncertain.
_SENTENCES = """
No pneumothorax, effusion or consolidation. |
No focal consolidation, pleural effusion, or pneumothorax is seen. | focal- > consolidation-; effusion- @ pleural
Heart size is normal. | size > heart; normal @ heart
The heart size and mediastinal contours are within normal limits. | size > heart; contours > mediastinal; normal @ heart; normal @ mediastinal
The lungs are clear without effusion or pneumothorax. | clear @ lungs
Small left pleural effusion. | small > effusion; left > pleural; effusion @ pleural
Right lower lobe opacity concerning for pneumonia. | right > lobe; lower > lobe; opacity @ lobe; opacity ~ pneumonia?
Right basilar opacity may represent atelectasis or pneumonia. | right > basilar; opacity @ basilar; opacity ~ atelectasis?; opacity ~ pneumonia?
Opacity at the left base, likely atelectasis. | opacity @ base; opacity ~ atelectasis; left > base
No opacity to suggest pneumonia. | opacity- ~ pneumonia-
The heart is mildly enlarged. | mildly > enlarged; enlarged @ heart
Heart is not enlarged. | enlarged- @ heart
No effusion and the heart is enlarged. | enlarged @ heart
Tortuous thoracic aorta with calcification of the arch. | tortuous @ aorta; thoracic > aorta; calcification @ arch
Endotracheal tube ends 4.5 cm above the carina. | endotracheal tube @ carina
Right chest tube is in place. | right > chest tube
The left pneumothorax has resolved. | left- > pneumothorax-
Effusion and atelectasis at the left base. | effusion @ base; atelectasis @ base; left > base
Mild cardiomegaly and pleural effusion. | mild > cardiomegaly; effusion @ pleural
Degenerative changes of the thoracic spine. | degenerative changes @ spine; thoracic > spine
No acute cardiopulmonary abnormality. | acute- > abnormality-; abnormality- @ cardiopulmonary
Low lung volumes with bibasilar atelectasis. | low > lung; volumes > lung; atelectasis @ bibasilar
Patchy, hazy opacities in the right upper and lower lobes. | patchy > opacities; hazy > opacities; opacities @ lobes; right > lobes; upper > lobes; lower > lobes
There is an effusion on the left, small and unchanged. | left > effusion; small > effusion; unchanged > effusion
Opacity in the right lung has increased. | opacity @ lung; right > lung; increased > opacity
Heart, mediastinum and hila are normal. | normal @ heart; normal @ mediastinum; normal @ hila
Cardiac silhouette is enlarged but stable. | silhouette > cardiac; enlarged @ cardiac; stable > cardiac
There is blunting of the left costophrenic angle. | blunting @ costophrenic; left > costophrenic; angle > costophrenic
No focal airspace disease. | focal- > airspace disease-
Lungs are hyperexpanded with flattened diaphragms. | hyperexpanded @ lungs; flattened @ diaphragms
There is no pleural effusion, but there is a small pneumothorax. | effusion- @ pleural; small > pneumothorax
Possible nodule in the right upper lobe. | nodule? @ lobe; right > lobe; upper > lobe
A small pneumothorax cannot be excluded. | small? > pneumothorax?
Calcified granuloma in the left upper lobe. | calcified > granuloma; granuloma @ lobe; left > lobe; upper > lobe
The trachea is midline. | midline @ trachea
Increase in the left effusion. | increase > effusion; left > effusion
Retrocardiac opacity likely reflects atelectasis, although pneumonia cannot be excluded. | opacity @ retrocardiac; opacity ~ atelectasis
Bony structures are intact. | structures > bony; intact @ bony
There is no evidence of acute rib fracture. | acute- > fracture-; fracture- @ rib
The cardiac and mediastinal silhouettes are unremarkable. | silhouettes > mediastinal; unremarkable @ cardiac; unremarkable @ mediastinal
There are no acute osseous abnormalities. | acute- > abnormalities-; abnormalities- @ osseous
Possible small right apical pneumothorax. | small? > pneumothorax?; right > apical; pneumothorax? @ apical
Mild pulmonary edema, unchanged. | mild > edema; edema @ pulmonary; unchanged > edema
Calcification of the aorta, normal heart. | calcification @ aorta; normal @ heart
The lungs are clear, and the heart is normal in size. | clear @ lungs; normal @ heart
Enlarged cardiac silhouette with pulmonary vascular congestion. | enlarged @ cardiac; silhouette > cardiac; pulmonary > vascular; congestion @ vascular
Right internal jugular catheter with tip in the lower SVC. | right > internal jugular catheter; internal jugular catheter @ svc; tip @ svc; lower > svc
Left upper lobe nodule, suspicious for malignancy. | left > lobe; upper > lobe; nodule @ lobe; nodule ~ malignancy?
There is patchy opacity in the lingula, which may represent pneumonia. | patchy > opacity; opacity @ lingula; opacity ~ pneumonia?
Hazy opacities are seen in both lower lobes. | hazy > opacities; opacities @ lobes; both > lobes; lower > lobes
Effusion, but no pneumothorax. |
Scarring or atelectasis in the left lung base. | scarring? @ base; atelectasis? @ base; left > lung; lung > base
Opacity at the right base, likely atelectasis, and small effusion. | opacity @ base; opacity ~ atelectasis; right > base; small > effusion
No effusion. Small pneumothorax on the right. | small > pneumothorax; right > pneumothorax
Findings consistent with pulmonary edema. | findings ~ edema; edema @ pulmonary
Bilateral pleural effusions are small. | bilateral > pleural; effusions @ pleural; small > effusions
No definite focal opacity but hazy density at the left apex. | focal- > opacity-; hazy > density; density @ apex; left > apex
The lungs aren't clear. | clear- @ lungs
Stable small left and moderate right effusions. | stable > effusions; small > effusions; left > effusions; moderate > effusions; right > effusions
Bibasilar opacities likely represent atelectasis, but superimposed pneumonia is possible. | opacities @ bibasilar; opacities ~ atelectasis; superimposed? > pneumonia?
Severe thoracic scoliosis. | severe > scoliosis; scoliosis @ thoracic
Left rib fractures are healed. | left > rib; fractures @ rib; healed > fractures
Pacemaker with leads in the right atrium and right ventricle. | pacemaker @ atrium; leads @ atrium; leads @ ventricle; right > atrium; right > ventricle
Mild elevation of the right hemidiaphragm. | mild > elevation; elevation @ hemidiaphragm; right > hemidiaphragm
The aorta is tortuous and calcified. | tortuous @ aorta; calcified > aorta
Heart size is top normal. | size > heart; top normal @ heart
Small hiatal hernia. | small > hernia; hiatal > hernia
There is no evidence of pneumonia or pulmonary edema. | edema- @ pulmonary
Clear lungs. | clear @ lungs
Normal heart size and mediastinal contours. | normal @ heart; normal @ mediastinal; size > heart; contours > mediastinal
Compared to the prior study, the left effusion is smaller. | left > effusion; smaller > effusion
Atelectasis versus pneumonia in the right lower lobe. | atelectasis? @ lobe; pneumonia? @ lobe; right > lobe; lower > lobe
Clips in the right upper abdomen. | clips @ abdomen; right > abdomen; upper > abdomen
There is a pleural effusion on the left, small and increased. | effusion @ pleural; left > effusion; small > effusion; increased > effusion
Opacity in the right lower lobe, moderate and increased, due to pneumonia. | opacity @ lobe; right > lobe; lower > lobe; moderate > opacity; increased > opacity
There is widening of the mediastinum, mild and new. | widening @ mediastinum; mild > widening; new > widening
There is a rib fracture on the left, mildly displaced and new. | fracture @ rib; left > fracture; mildly > fracture; displaced > fracture; new > fracture
Pleural thickening on the right, mild. | thickening @ pleural; right > thickening; mild > thickening
The endotracheal tube ends above the carina. | endotracheal tube @ carina
Right central line is new and ends in the SVC. | right > central line; central line @ svc; new > central line
There is no pleural effusion or pneumothorax. | effusion- @ pleural
The heart and mediastinum are normal. | normal @ heart; normal @ mediastinum
No acute disease. | acute- > disease-
Large right and small left pleural effusions. | large > effusions; right > pleural; small > effusions; left > pleural; effusions @ pleural
The lungs are clear bilaterally. | clear @ lungs; bilaterally > lungs
No displaced rib fracture is identified. | displaced- > fracture-; fracture- @ rib
The opacity in the left base has decreased. | opacity @ base; left > base; decreased > opacity
There is a nodule in the right middle lobe, moderate in size. | nodule @ lobe; right > lobe; middle > lobe; moderate > nodule
The pneumothorax is not seen. |
No lung mass. | mass- @ lung
Pleural effusion is present, however no consolidation is seen in the lungs. | effusion @ pleural; consolidation- @ lungs
No evidence of pneumothorax, pleural effusion or focal opacity in the lungs. | effusion- @ pleural; focal- > opacity-; opacity- @ lungs
Interstitial opacities may reflect edema or atypical infection. | interstitial > opacities; opacities ~ edema?; opacities ~ infection?; atypical? > infection?
Cannot exclude a small left effusion. | small? > effusion?; left? > effusion?
Questionable nodule at the left apex. | nodule? @ apex; left > apex
Neither pleural effusion nor lung consolidation is present. | effusion- @ pleural; consolidation- @ lung
Findings suggestive of mild pulmonary edema. | findings ~ edema?; mild? > edema?; edema? @ pulmonary
Multifocal airspace opacities are concerning for pneumonia. | multifocal > opacities; opacities @ airspace; opacities ~ pneumonia?
Left lower lobe consolidation, compatible with pneumonia or aspiration. | left > lobe; lower > lobe; consolidation @ lobe; consolidation ~ pneumonia?; consolidation ~ aspiration?
Right upper lobe mass with associated mediastinal adenopathy. | right > lobe; upper > lobe; mass @ lobe; associated > adenopathy; adenopathy @ mediastinal
Cardiomegaly is moderate and stable. | moderate > cardiomegaly; stable > cardiomegaly
A picc line terminates in the superior vena cava. | picc line @ superior vena cava
There is a dual chamber pacemaker over the left chest. | dual chamber pacemaker @ chest; left > chest
Nasogastric tube tip is in the stomach. | nasogastric tube > tip; tip @ stomach
The hila and mediastinum are unremarkable, but the aorta is ectatic. | unremarkable @ hila; unremarkable @ mediastinum; ectatic @ aorta
No acute findings; stable cardiomegaly. | acute- > findings-; stable > cardiomegaly
Flattening of the hemidiaphragms suggests emphysema. | flattening @ hemidiaphragms; flattening ~ emphysema?
Lungs are hyperinflated. | hyperinflated @ lungs
The mediastinal contours are not widened. | contours > mediastinal; widened- @ mediastinal
Heart normal. Lungs clear. | normal @ heart; clear @ lungs
Linear scarring in the right lung base and left apex. | linear > scarring; scarring @ base; scarring @ apex; right > lung; lung > base; left > apex
There is no pneumothorax or left pleural effusion. | left > pleural; effusion- @ pleural
Old left clavicle fracture. | old > fracture; left > clavicle; fracture @ clavicle
Mild to moderate pulmonary edema. | mild to moderate > edema; edema @ pulmonary
Trace bilateral effusions with adjacent basilar atelectasis. | trace > effusions; bilateral > effusions; adjacent > atelectasis; atelectasis @ basilar
Ground glass opacity in the left lung. | ground glass > opacity; opacity @ lung; left > lung
There is likely a small effusion in the right lung base. | small > effusion; effusion @ base; right > lung; lung > base
Effusion and likely atelectasis. |
Degenerative changes are seen throughout the thoracic spine. | degenerative changes @ spine; thoracic > spine
Upper limits of normal heart size. | upper limits of normal @ heart; size > heart
Elevated right hemidiaphragm. | elevated @ hemidiaphragm; right > hemidiaphragm
Bony structures and soft tissues are normal. | structures > bony; normal @ bony; normal @ soft tissues
No consolidation in the right upper lobe, left effusion, or pneumothorax. | consolidation- @ lobe; right > lobe; upper > lobe; left- > effusion-
The right costophrenic angle is blunted. | right > costophrenic; angle > costophrenic; blunted @ costophrenic
Pulmonary vascularity is within normal limits. | pulmonary > vascularity; normal @ vascularity
""".strip().splitlines()  # noqa: E501


def _end(text):
  return text.rstrip("-?"), _STATUS.get(text[-1], "present")


def _expected(text):
  for row in filter(None, text.strip().split("; ")):
    mark = next(mark for mark in _RELATION if f" {mark} " in row)
    (source, status), (target, other) = map(_end, row.split(f" {mark} "))
    yield Triple(source, _RELATION[mark], target, status, other)


@pytest.mark.parametrize("line", _SENTENCES, ids=lambda line: line.split(" |")[0])
def test_sentence(line):
  sentence, expected = line.split(" |")
  assert extract(sentence) == tuple(_expected(expected))


def _labels(text):
  return {e["tokens"]: e["label"] for e in annotate(text)["entities"].values()}


def test_negation_survives_a_list_of_commas_and_ends_at_a_contrast():
  labels = _labels("No pneumothorax, effusion, or nodule, but a small hernia.")
  assert labels == {
    "pneumothorax": "OBS-DA",
    "effusion": "OBS-DA",
    "nodule": "OBS-DA",
    "small": "OBS-DP",
    "hernia": "OBS-DP",
  }


def test_what_has_gone_is_absent():
  assert _labels("The right effusion has resolved.")["effusion"] == "OBS-DA"
  assert _labels("The feeding tube has been removed.")["feeding tube"] == "OBS-DA"


def test_what_is_said_of_anatomy_is_anatomy_and_is_there():
  labels = _labels("No nodule in the left lung base.")
  assert labels["nodule"] == "OBS-DA"
  assert {labels[word] for word in ("left", "lung", "base")} == {"ANAT-DP"}


def test_a_modifier_without_a_head_is_no_entity():
  assert annotate("Small and stable on the left.")["entities"] == {}


def test_the_shape_is_that_of_radgraph():
  found = annotate("No effusion.\n\nSmall  nodule,\tin the LEFT lung!")
  assert found == {
    "text": "no effusion . small nodule , in the left lung .",
    "entities": {
      "1": _entity("effusion", "OBS-DA", 1),
      "2": _entity("small", "OBS-DP", 3, ["modify", "3"]),
      "3": _entity("nodule", "OBS-DP", 4, ["located_at", "5"]),
      "4": _entity("left", "ANAT-DP", 8, ["modify", "5"]),
      "5": _entity("lung", "ANAT-DP", 9),
    },
  }


def _entity(tokens, label, place, *relations):
  return {
    "tokens": tokens,
    "label": label,
    "start_ix": place,
    "end_ix": place,
    "relations": list(relations),
  }


def test_triples_follow_the_text_whatever_the_order_of_the_entities():
  found = annotate("Effusion and small nodule in the left lung. No mass in the heart.")
  entities = found["entities"]
  backwards = {
    name: entity | {"relations": entity["relations"][::-1]}
    for name, entity in reversed(entities.items())
  }
  assert triples_of(backwards) == triples_of(entities)
  assert [t.source for t in triples_of(entities)] == [
    *("effusion", "small", "nodule", "left", "mass"),
  ]


def test_equal_triples_are_given_once():
  assert len(extract("Small effusion. Small effusion. No small effusion.")) == 2


def test_only_findings_and_impression_are_read():
  text = """INDICATION: Evaluate for left pneumothorax.
  FINDINGS: Small effusion.
  IMPRESSION: Enlarged heart."""
  assert [t.target for t in extract(text)] == ["effusion", "heart"]
  assert extract("INDICATION: Small effusion.\nHISTORY: Enlarged heart.") != ()


def test_relations_do_not_cross_sentences():
  assert extract("Small. Effusion. Left. Lung.") == ()
  assert extract("Opacity; in the left lung") == extract("Left lung.")


def test_the_lexicon_knows_what_the_findings_reader_knows():
  """Every finding or device that one reader reads is an observation to the other."""
  for phrases in (*findings.terms.FINDINGS.values(), *findings.terms.DEVICES.values()):
    for phrase in phrases:
      for text in findings.matcher.expand(phrase):
        entities = annotate(f"There is {text}.")["entities"].values()
        assert any(entity["label"] == "OBS-DP" for entity in entities), text


def test_an_entity_is_never_both_observation_and_anatomy():
  roles = {}
  for rows in lexicon.INDEX.values():
    for words, term in rows:
      roles.setdefault(term.role, set()).add(words)
  assert set(roles) == {
    *("observation", "anatomy", "modifier", "part", "measure", "cue", ""),
  }
  assert len(roles["observation"]) > 400


_WORDS = sorted({" ".join(w) for rows in lexicon.INDEX.values() for w, _ in rows})
_texts = st.one_of(
  st.text(),
  st.lists(
    st.one_of(
      st.sampled_from(_WORDS), st.sampled_from([".", ",", "\n\n", "xyz", "'s"])
    ),
    max_size=25,
  ).map(" ".join),
)


@given(_texts)
@example("")
@example(" \n\t\u00a0\u2003 ")
@example("No e\u0301panchement \u2014 \u0130\ud7ff\U0001f9e0; \x00 small\u00a0effusion")
@example("FINDINGS:")
@example("of in at and or , no not")
def test_any_text_is_read(text):
  found = annotate(text)
  words, entities = found["text"].split(), found["entities"]
  for number, (name, entity) in enumerate(entities.items(), 1):
    assert name == str(number)
    covered = words[entity["start_ix"] : entity["end_ix"] + 1]
    assert " ".join(covered) == entity["tokens"] != ""
    for kind, target in entity["relations"]:
      assert kind in RELATIONS
      assert target in entities
      assert target != name
      anatomy = [end["label"] == "ANAT-DP" for end in (entity, entities[target])]
      # As in RadGraph: like modifies like, and what is seen lies in the anatomy.
      if kind == "modify":
        assert anatomy[0] == anatomy[1]
      else:
        assert anatomy == [False, kind == "located_at"]
  starts = [entity["start_ix"] for entity in entities.values()]
  assert starts == sorted(set(starts))
  assert extract(text) == triples_of(entities)


@given(st.lists(st.sampled_from(_WORDS), max_size=25).map(" ".join))
def test_the_text_that_is_given_back_reads_the_same(text):
  assert annotate(annotate(text)["text"])["entities"] == annotate(text)["entities"]


def test_reports_by_rule():
  found, missing = of_reports({"s1": "Small effusion.", "s2": ""}, RULES)
  assert found == {"s1": (Triple("small", "modify", "effusion"),), "s2": ()}
  assert missing == 0


def test_triples_come_back_from_their_file():
  found, _ = of_reports({"s2": "Small left pleural effusion.", "s1": ""})
  data = to_bytes(found)
  assert from_bytes(data) == found
  assert [*from_bytes(data)] == ["s2", "s1"]
  assert to_bytes(from_bytes(data)) == data
  for damaged in (data[:-3], b"", data.replace(data[:2], b"xx"), to_bytes({})[:5]):
    with pytest.raises(ValueError, match=r"\w"):
      from_bytes(damaged)
