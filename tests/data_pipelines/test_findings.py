"""The reader on invented sentences in the style of real reports."""

import numpy as np
import pytest

from data_pipelines import findings, records
from data_pipelines.records import Fact

_SHORT = {
  "mediastinum": "Enlarged Cardiomediastinum",
  "heart": "Cardiomegaly",
  "opacity": "Lung Opacity",
  "lesion": "Lung Lesion",
  "edema": "Edema",
  "consolidation": "Consolidation",
  "pneumonia": "Pneumonia",
  "atelectasis": "Atelectasis",
  "pneumothorax": "Pneumothorax",
  "effusion": "Pleural Effusion",
  "pleura": "Pleural Other",
  "fracture": "Fracture",
  "device": "Support Devices",
}
_STATUS = {
  "+": records.PRESENT,
  "-": records.ABSENT,
  "?": records.UNCERTAIN,
}

# Sentence; what it says of each label it mentions; (label side change).
_SENTENCES = """
No pneumothorax. | pneumothorax- |
There is no pleural effusion or pneumothorax. | effusion- pneumothorax- |
No focal consolidation, pleural effusion, or pneumothorax is seen. | consolidation- effusion- pneumothorax- |
No evidence of pulmonary edema. | edema- |
Lungs are clear without effusion or pneumothorax. | opacity- consolidation- effusion- pneumothorax- |
The lungs are clear of consolidation. | consolidation- |
Negative for acute fracture. | fracture- |
The heart size is normal. | heart- |
Heart is not enlarged. | heart- |
The cardiomediastinal silhouette is within normal limits. | heart- mediastinum- |
Osseous structures are intact. | fracture- |
The costophrenic angles are sharp. | effusion- |
Pulmonary vasculature is normal. | edema- |
Pneumothorax is not seen. | pneumothorax- |
A pneumothorax has been excluded. | pneumothorax- |
Moderate cardiomegaly. | heart+ |
The cardiac silhouette is mildly enlarged. | heart+ |
Enlarged heart with clear lungs. | heart+ opacity- consolidation- |
There is widening of the superior mediastinum. | mediastinum+ |
Heart size is top normal. | heart? |
Small left pleural effusion with adjacent atelectasis. | effusion+ atelectasis+ |
Bibasilar atelectasis. | atelectasis+ |
Patchy opacity in the right lower lobe. | opacity+ |
Right lower lobe opacity concerning for pneumonia. | opacity+ pneumonia? |
Right basilar opacity may represent atelectasis or pneumonia. | opacity+ atelectasis? pneumonia? |
Left base opacity, atelectasis versus pneumonia. | opacity+ atelectasis? pneumonia? |
Left lower lobe opacity consistent with pneumonia. | opacity+ pneumonia+ |
Opacity at the left base, likely atelectasis. | opacity+ atelectasis+ |
No opacity to suggest pneumonia. | opacity- pneumonia- |
A small pneumothorax cannot be excluded. | pneumothorax? |
Cannot exclude a small left effusion. | effusion? |
A superimposed infection is not excluded. | pneumonia? |
Possible tiny right apical pneumothorax. | pneumothorax? |
Question of a nodule in the left upper lobe. | lesion? |
Nodular opacity in the right upper lobe. | lesion+ |
Three healed left rib fractures. | fracture+ |
Calcified pleural plaques on both sides. | pleura+ |
Left apical pleural thickening. | pleura+ |
Mild vascular congestion without frank edema. | edema+ |
Endotracheal tube ends 4.5 cm above the carina. | device+ |
Right internal jugular catheter tip in the mid SVC, no pneumothorax. | device+ pneumothorax- |
Left-sided pacemaker with leads in the right atrium and right ventricle. | device+ |
No pneumothorax, but there is a small left effusion. | pneumothorax- effusion+ |
No effusion; moderate edema. | effusion- edema+ |
No pneumothorax is seen and a small effusion is present. | pneumothorax- effusion+ |
Effusion is present, however no consolidation is seen. | effusion+ consolidation- |
There's no effusion. | effusion- |
The lungs aren't consolidated. | consolidation- |
Fluid in the left pleural space. | effusion+ |
Left hydropneumothorax. | pneumothorax+ effusion+ |
Increasing left pleural effusion. | effusion+ | effusion left larger
Left pleural effusion has increased. | effusion+ | effusion left larger
Interval increase in the left pleural effusion. | effusion+ | effusion left larger
The right effusion is larger than before. | effusion+ | effusion right larger
Worsening bilateral opacities. | opacity+ | opacity left larger, opacity right larger
Pulmonary edema has progressed. | edema+ | edema larger
Right pneumothorax has decreased in size. | pneumothorax+ | pneumothorax right smaller
Improved pulmonary edema. | edema+ | edema smaller
Interval improvement in right lower lobe consolidation. | consolidation+ | consolidation right smaller
Partial resolution of the left effusion. | effusion+ | effusion left smaller
The heart is less enlarged than before. | heart+ | heart smaller
The left pneumothorax has resolved. | pneumothorax- | pneumothorax left resolved
Complete resolution of pulmonary edema. | edema- | edema resolved
Previously seen left effusion is no longer visualized. | effusion- | effusion left resolved
The previously noted right nodule is not seen. | lesion- | lesion right resolved
Right upper lobe opacity has cleared. | opacity- | opacity right resolved
The heart is no longer enlarged. | heart- | heart resolved
New right lower lobe consolidation. | consolidation+ | consolidation right new
Interval development of a small left effusion. | effusion+ | effusion left new
A left pneumothorax has developed. | pneumothorax+ | pneumothorax left new
There is newly seen opacity at the right base. | opacity+ | opacity right new
No new consolidation. | consolidation- |
No new or enlarging nodule. | lesion- |
Unchanged moderate right effusion. | effusion+ | effusion right unchanged
Stable cardiomegaly. | heart+ | heart unchanged
Bilateral effusions are stable. | effusion+ | effusion left unchanged, effusion right unchanged
No significant interval change in left effusion. | effusion+ | effusion left unchanged
Heart remains enlarged. | heart+ | heart unchanged
Left rib fractures are again seen. | fracture+ | fracture left unchanged
The lungs remain clear. | opacity- consolidation- |
Left effusion has increased and right effusion is unchanged. | effusion+ | effusion left larger, effusion right unchanged
Small left and moderate right effusions are unchanged. | effusion+ | effusion left unchanged, effusion right unchanged
Left effusion has decreased, while the right effusion has resolved. | effusion+ | effusion left smaller, effusion right resolved
Cardiomegaly and pulmonary edema have worsened. | heart+ edema+ | heart larger, edema larger
Increased left effusion with new right atelectasis. | effusion+ atelectasis+ | effusion left larger, atelectasis right new
No pneumothorax and unchanged small left effusion. | pneumothorax- effusion+ | effusion left unchanged
Endotracheal tube has been removed. | device- | device resolved
Interval removal of the left chest tube. | device- | device left resolved
New right chest tube is in place. | device+ | device right new
Interval placement of a right PICC. | device+ | device right new
Nasogastric tube is unchanged in position. | device+ | device unchanged
Left lower lobe opacity has worsened, consistent with pneumonia. | opacity+ pneumonia+ | opacity left larger
Moderate left effusion, increased since the prior study. | effusion+ | effusion left larger
Compared to the prior study, the left effusion is smaller. | effusion+ | effusion left smaller
The opacity on the right is more extensive. | opacity+ | opacity right larger
Lung volumes have decreased, and a left effusion is new. | effusion+ | effusion left new
There is interval worsening of bibasilar opacities, right greater than left. | opacity+ | opacity left larger, opacity right larger
The previously described right upper lobe nodule is unchanged in size. | lesion+ | lesion right unchanged
There has been interval resolution of the right pleural effusion. | effusion- | effusion right resolved
Mild-to-moderate cardiomegaly is stable. | heart+ | heart unchanged
Low lung volumes with bibasilar atelectasis, left greater than right. | atelectasis+ |
Mild interstitial edema has improved since the prior radiograph. | edema+ | edema smaller
No displaced rib fracture is identified. | fracture- |
There is no large pleural effusion or evidence of pneumothorax. | effusion- pneumothorax- |
Trace bilateral pleural effusions, slightly increased on the left. | effusion+ | effusion left larger, effusion right larger
Left chest tube remains in place; no residual pneumothorax. | device+ pneumothorax- | device left unchanged
Right PICC terminates in the lower SVC. | device+ |
Dual-lead left pacemaker is in unchanged position. | device+ | device left unchanged
Large right pneumothorax with complete collapse of the right lung. | pneumothorax+ atelectasis+ |
Hazy opacity at the right base, which has increased, suggests layering effusion. | opacity+ effusion? | opacity right larger
The patient has been extubated. | device- | device resolved
Mediastinal contours are unremarkable, and there is no hilar enlargement. | mediastinum- |
Retrocardiac opacity likely reflects atelectasis, although pneumonia cannot be excluded. | opacity+ atelectasis+ pneumonia? |
Neither consolidation nor effusion is present. | consolidation- effusion- |
Apparent interval decrease in size of the left-sided effusion. | effusion+ | effusion left smaller
Cardiac silhouette is enlarged but unchanged. | heart+ | heart unchanged
Persistent moderate right effusion and new left effusion. | effusion+ | effusion right unchanged, effusion left new
Consolidation in the left lower lobe is not significantly changed. | consolidation+ | consolidation left unchanged
Subtle increased opacity in the lingula. | opacity+ | opacity left larger
There is a 9 mm nodule in the right upper lobe. | lesion+ |
A right pleural effusion is again seen, now moderate. | effusion+ | effusion right unchanged
No acute cardiopulmonary process. | |
No appreciable change in the severe pulmonary edema. | edema+ | edema unchanged
Resolving left lower lobe pneumonia. | pneumonia+ | pneumonia left smaller
Both the left pneumothorax and the left effusion have decreased. | pneumothorax+ effusion+ | pneumothorax left smaller, effusion left smaller
Blunting of the left costophrenic angle. | effusion? |
Minimally displaced fracture of the right sixth rib. | fracture+ |
Support devices are unchanged. | device+ | device unchanged
The right lung is clear. | opacity- consolidation- |
Pulmonary edema is absent. | edema- |
Mild atelectasis at the left base and severe atelectasis at the right base, new. | atelectasis+ | atelectasis left new, atelectasis right new
Left effusion and atelectasis at the right base. | effusion+ atelectasis+ |
The heart is mildly enlarged, and the left effusion has resolved. | heart+ effusion- | effusion left resolved
Interval extubation. | device- | device resolved
Small bilateral layering pleural effusions with overlying compressive atelectasis. | effusion+ atelectasis+ |
No pleural effusions or pneumothoraces are identified. | effusion- pneumothorax- |
The heart size remains mildly enlarged. | heart+ | heart unchanged
Cardiomegaly is accompanied by mild pulmonary vascular congestion. | heart+ edema+ |
There is persistent elevation of the right hemidiaphragm. | |
Bilateral pleural effusions, right larger than left, are slightly improved. | effusion+ | effusion left smaller, effusion right smaller
Right-sided port-a-cath with its tip at the cavoatrial junction. | device+ |
The known left upper lobe mass has grown. | lesion+ | lesion left larger
Multifocal airspace opacities are concerning for pneumonia in the appropriate clinical setting. | opacity+ pneumonia? |
There has been little interval change in the bilateral effusions. | effusion+ | effusion left unchanged, effusion right unchanged
No pneumothorax following removal of the left chest tube. | pneumothorax- device- | device left resolved
Stable appearance of the cardiomediastinal silhouette. | |
Old healed fractures of the left fifth and sixth ribs. | fracture+ |
Decreased lung volumes accentuate the cardiac silhouette. | |
Pulmonary edema has nearly resolved. | edema+ | edema smaller
Worsened aeration of the left base, suspicious for collapse. | atelectasis? |
An enteric tube courses below the diaphragm, with tip out of view. | device+ |
The right apical pneumothorax is no longer apparent. | pneumothorax- | pneumothorax right resolved
Bibasilar opacities likely represent atelectasis, but superimposed pneumonia is possible. | opacity+ atelectasis+ pneumonia? |
There is no evidence of acute fracture or dislocation. | fracture- |
New since the previous exam is a moderate right pleural effusion. | effusion+ | effusion right new
Lungs are hyperinflated but clear. | opacity- consolidation- |
Mild cardiomegaly without overt edema. | heart+ edema- |
Left lower lobe collapse has not changed. | atelectasis+ | atelectasis left unchanged
There is a small amount of pleural fluid on the left. | effusion+ |
Tiny left apical pneumothorax, decreased from prior, with chest tube in place. | pneumothorax+ device+ | pneumothorax left smaller
The patient is status post median sternotomy. | |
Mediastinum is not widened. | mediastinum- |
""".strip().splitlines()  # noqa: E501


def _row(line):
  sentence, labels, changes = (part.strip() for part in f"{line} |".split("|")[:3])
  labels = {_SHORT[word[:-1]]: _STATUS[word[-1]] for word in labels.split()}
  triples = set()
  for change in filter(None, changes.split(", ")):
    name, *side, kind = change.split()
    triples.add((_SHORT[name], " ".join(side), kind))
  return sentence, labels, triples


@pytest.mark.parametrize("line", _SENTENCES, ids=lambda line: line.split(" |")[0])
def test_sentence(line):
  sentence, labels, changes = _row(line)
  values = dict(zip(records.LABELS, findings.labels(sentence).tolist()))
  del values["No Finding"]
  mentioned = {k: v for k, v in values.items() if v != records.UNMENTIONED}
  assert mentioned == labels
  assert findings.changes(sentence, records.CHANGES[1:]) == changes


def test_sides_places_and_grades():
  facts = findings.read("Small left and large right lower lobe consolidations.")
  assert facts == (
    Fact("Consolidation", "left", "lower", "mild"),
    Fact("Consolidation", "right", "lower", "severe"),
  )
  (fact,) = findings.read("Nodule in the right middle lobe, moderate in size.")
  assert fact == Fact("Lung Lesion", "right", "middle", "moderate")
  (fact,) = findings.read("Small to moderate LLL atelectasis")
  assert fact == Fact("Atelectasis", "left", "lower", "moderate")
  facts = findings.read("New left upper lobe opacity, consistent with pneumonia.")
  assert facts == (
    Fact("Lung Opacity", "left", "upper", change="new"),
    Fact("Pneumonia", "left", "upper"),
  )


def test_only_findings_and_impression_are_read():
  text = """INDICATION: Evaluate for pneumothorax.
  FINDINGS: Small effusion. The heart is normal.
  IMPRESSION: Effusion."""
  values = dict(zip(records.LABELS, findings.labels(text).tolist()))
  assert values["Pleural Effusion"] == records.PRESENT
  assert values["Pneumothorax"] == records.UNMENTIONED


def test_no_finding_is_derived():
  no_finding = lambda text: findings.labels(text)[-1]
  assert no_finding("Clear lungs. Right chest tube.") == records.PRESENT
  assert no_finding("Possible nodule.") == records.UNMENTIONED
  assert no_finding("The left effusion has resolved.") == records.PRESENT
  assert no_finding("") == records.PRESENT


def test_present_outweighs_absent_and_unchanged_is_apart():
  text = "No effusion on the left. Stable small right effusion."
  assert findings.labels(text)[records.LABELS.index("Pleural Effusion")] == 1
  assert findings.labels(text).dtype == np.int8
  assert findings.changes(text) == frozenset()
  unchanged = findings.changes(text, ("unchanged",))
  assert unchanged == {("Pleural Effusion", "right", "unchanged")}


def test_text_and_its_facts_agree():
  text = "New left effusion. No pneumothorax. Possible pneumonia."
  facts = findings.read(text)
  assert (findings.labels(facts) == findings.labels(text)).all()
  assert findings.changes(facts) == findings.changes(text)


def test_a_place_of_its_own_comes_before_a_shared_one():
  facts = findings.read("Left effusion and atelectasis. Left opacity and right mass.")
  assert [fact.side for fact in facts] == ["left", "left", "left", "right"]
  facts = findings.read("Left effusion and atelectasis at the right base.")
  assert [fact.side for fact in facts] == ["left", "right"]
