"""The words of entities: observations, anatomy, modifiers, and the cues between them.

Each word keeps the kind that it has in the grammar of `findings.clause`, whose
negation and doubt hold here too, and is given a role in the graph. Phrases are
written as in findings/terms.py, from which most observations come.
"""

from collections.abc import Iterator
from typing import NamedTuple

from data_pipelines.findings import modifiers, terms
from data_pipelines.findings.matcher import Mark, expand, index


class Term(NamedTuple):
  """A phrase: what it is to the clause, and its role among the entities."""

  mark: Mark
  # observation, anatomy, modifier; part and measure, of the anatomy that they follow;
  # cue, of what is seen for what it suggests; "" for what only the clause reads.
  role: str


# Nouns of which something is said.
STRUCTURES = (
  "(heart|lungs|mediastinum|bones|ribs|skeleton|clavicles|spine|hila|hilum|aorta)",
  "[hemi](diaphragm|diaphragms)",
  "(vasculature|vascularity|vessel|vessels|trachea|airway|airways|pleura|carina)",
  "(stomach|abdomen|cardiomediastinum|parenchyma|interstitium|airspaces|thorax|hips)",
  "(vertebra|vertebrae|shoulder|shoulders|sternum|soft tissue[s]|chest wall|hip)",
  "(apex|apices|bases|lobes|zones|hemithoraces|fissures|quadrants|heart border[s])",
)
# Places, and what is as a rule said before the name of something else.
SITES = (
  "(lung|pulmonary|cardiac|cardio|mediastinal|cardiomediastinal|hilar|pleural)",
  "(aortic|osseous|osseus|bony|bone|skeletal|rib|clavicle|clavicular|vertebral)",
  "(sternal|humeral|humerus|thoracic|thoracolumbar|lumbar|cervical|spinal|midthoracic)",
  "(costophrenic|cardiophrenic|diaphragmatic|hemidiaphragmatic|subdiaphragmatic)",
  "(tracheal|bronchial|peribronchial|bronchovascular|vascular|venous|arterial)",
  "(airspace|air space|parenchymal|pleuroparenchymal|cardiopulmonary)",
  "(intrathoracic|cardiothoracic)",
  "(chest|lobe|zone|midlung|base|basilar|basal|bibasilar|bibasal|apical|biapical)",
  "(lingula|lingular|retrocardiac|perihilar|parahilar|suprahilar|infrahilar|hemithorax)",
  "(paratracheal|retrosternal|subcarinal|subpleural|supraclavicular|axillary|axilla)",
  "(lll|lul|rll|rml|rul|fissure|arch|knob|atrium|atrial|ventricle|ventricular)",
  "(svc|superior vena cava|vena cava|caval|cavoatrial|subclavian|brachiocephalic)",
  "(jugular|artery|arteries|vein|valve plane|gastroesophageal|gastric|esophageal)",
  "(esophagus|bowel|colon|colonic|abdominal|intraperitoneal|peritoneal|quadrant)",
  "(intervertebral|disc|endplate[s]|glenohumeral|acromioclavicular|joint[s]|neck)",
  "(coronary|pericardial|epicardial|breast|nipple|hepatic|splenic|neural|azygos)",
  "([lymph] node[s]|subcutaneous|scapula|scapular|tissue|tissues|body wall)",
)
# Of the anatomy before them; anatomy themselves where there is none.
PARTS = (
  "(silhouette[s]|contour[s]|shadow[s]|border[s]|margin[s]|structure[s]|space[s])",
  "(surface[s]|angle[s]|sulcus|sulci|recess|field[s]|segment[s]|bodies|body)",
  "(junction|wall|region|outline[s])",
)
MEASURES = ("(size|width[s]|volume[s]|caliber|height|configuration|shape|alignment)",)

# Descriptions of an observation.
QUALITIES = (
  "(acute|active|focal|multifocal|patchy|hazy|streaky|linear|bandlike|platelike)",
  "(plate like|band like|discoid|subsegmental|segmental|lobar|diffuse|scattered|fine)",
  "(multiple|several|numerous|few|single|solitary|calcified|noncalcified|granulomatous)",
  "(degenerative|old|healed|healing|remote|displaced|discrete|nodular|reticular)",
  "(reticulonodular|interstitial|alveolar|consolidative|confluent|confluence|vague)",
  "(irregular|rounded|round|oval|spiculated|cavitary|cystic|bullous|emphysematous)",
  "(atherosclerotic|arthritic|hypertrophic|osteophytic|fibrotic|scoliotic|kyphotic)",
  "(atypical|inflammatory|metastatic|malignant|benign|residual|recurrent)",
  "(superimposed|underlying|adjacent|associated|layering|loculated|free)",
  "(compressive|passive|congestive|postsurgical|postoperative|posttraumatic|surgical)",
  "(obstructive|restrictive|reactive|senescent|nonspecific|indeterminate|suspicious)",
  "(asymmetric|symmetric|coarse|indistinct|ill defined|well defined|overt|frank|early)",
  "(low|high|limited|poor|shallow|abnormal|sclerotic|lytic|destructive)",
  "(compression|multilevel|wedge|anterior wedge|airspace filling|pulmonary venous)",
  "(dual chamber|single lead|dual lead|tunneled|median|vertical|hiatal)",
  "(calcific|curvilinear|tuberculous|advanced|cortical|prosthetic|external)",
)
# Where in the anatomy.
PLACES = (
  "(upper|middle|mid|lower|central|peripheral|medial|anterior|posterior)",
  "(superior|inferior|proximal|distal|ascending|descending|transverse)",
)

# Beside those of terms.FINDINGS and terms.DEVICES.
OBSERVATIONS = (
  "(abnormality|abnormalities|process|processes|finding|findings|change|changes)",
  "(adenopathy|lymphadenopathy|hernia[s]|air|gas|free air|density|densities)",
  "(|levo|dextro)(scoliosis|curvature)",
  "(kyphosis|kyphoscoliosis|spondylosis|osteophyte[s]|osteophytosis|spurring|spurs)",
  "(arthritis|osteoarthritis|arthropathy|arthrosis|osteopenia|osteoporosis|dish)",
  "(demineralization|deformity|deformities|degeneration|dislocation[s]|subluxation)",
  "(calcification[s]|calcinosis|atherosclerosis|aneurysm|ectasia|tortuosity)",
  "(unfolding|scar[s]|scarring|cicatrix|fibrosis|thickening|plaque[s]|emphysema)",
  "(copd|bronchitis|bronchiectasis|hyperinflation|hyperexpansion|hypoinflation)",
  "(hypoventilation|hyperlucency|lucency|lucencies|crowding|marking[s]|shift)",
  "(deviation|elevation|eventration|flattening|fullness|prominence|obscuration)",
  "(volume loss|wedging|compression deformity|tuberculosis|sarcoidosis|pneumonitis)",
  "(pneumoperitoneum|pneumomediastinum|hypertension|fusion|cyst[s]|bulla|bullae)",
  "(bleb[s]|cavity|cavities|cavitation|collection[s]|air bronchogram[s]|trauma)",
  "(injury|sequela|sequelae|irregularity|retraction|air trapping|infarct|embolism)",
  "(sternotomy|cabg|lobectomy|pneumonectomy|cholecystectomy|mastectomy|resection)",
  "(granulomata|granulomatosis|cancer|carcinoma|lymphoma)",
  "(airspace|air space) disease",
  "(degenerative|arthritic|postsurgical|postoperative|emphysematous|atherosclerotic"
  "|granulomatous|fibrotic|inflammatory|hypertrophic|obstructive|senescent)"
  " (change|changes|disease)",
  "degenerative disc (change|changes|disease)",
  "(narrowing|sclerosis|destruction|aeration|expansion|inflation|widening|blunting)",
  "(enlargement|dilatation|dilation|distention|distension|engorgement|redistribution)",
  "(haziness|hemorrhage|contusion|enlargements|inspiratory effort|obstruction)",
  "formation",
)
OBJECTS = (
  "(catheter[s]|clip[s]|wire[s]|stent[s]|lead[s]|tip[s]|tube[s]|tubing|generator)",
  "(stimulator|shunt|drain[s]|suture[s]|staple[s]|screw[s]|prosthesis|device[s])",
  "(aicd|cardioverter|defibrillator[s]|pacemaker[s]|port|bullet|foreign body)",
  "(foreign bodies|foreign object[s]|implant[s]|graft|fixation|valve[s])",
)
# Said of anatomy, before it or after it.
ABNORMAL = (
  "(tortuous|ectatic|unfolded|hyperinflated|hyperexpanded|hypoinflated|elevated)",
  "(flattened|engorged|obscured|hyperlucent|deviated|osteopenic|widened|accentuated)",
  "(demineralized|deformed|thickened|rotated|distended|exaggerated|fractured|broken)",
)
NORMAL = ("(negative|midline|patent|symmetrical|[well] inflated|aerated|expanded)",)

AT = (
  "(in|at|of|within|on|over|above|below|near|along|throughout|into|behind|beneath)",
  "(under|overlying|involving|between|around|adjacent to)",
)
# Words of change that name nothing.
_BARE_CHANGES = ("remain", "remains", "persist", "persists", "redemonstrated")
_BARE_CHANGES += ("less", "better", "greater", "constant", "static", "grown")


def _spellings(phrases: tuple[str, ...]) -> list[str]:
  return [text for phrase in phrases for text in expand(phrase)]


def _first_words_do(phrases: tuple[str, ...]) -> list[str]:
  """Spellings without those that only lengthen another: "left" for "left sided"."""
  spellings = _spellings(phrases)
  lengthens = lambda text: " " in text and text.split()[0] in spellings
  return [text for text in spellings if not lengthens(text)]


def _stripped(
  phrases: tuple[str, ...], leading: set[str], anatomy: set[str]
) -> Iterator[str]:
  """What is left of a finding's names without the anatomy and modifiers before it."""
  for text in _spellings(phrases):
    words = text.split()
    while len(words) > 1 and words[0] in leading:
      words.pop(0)
    if not anatomy & set(words):
      yield " ".join(words)


def _grammar() -> Iterator[tuple[str, Term]]:
  """What only the clause reads."""
  rows = {**modifiers.GRAMMAR, "ignored": ("new york", "mass effect"), "at": AT}
  for kind, phrases in rows.items():
    for phrase in phrases:
      yield phrase, Term(Mark(kind), "")
  for phrase in modifiers.UNCERTAIN:
    role = "cue" if phrase in modifiers.SUGGESTED else ""
    yield phrase, Term(Mark("uncertain"), role)
  for phrase in modifiers.TAKEN_FOR:
    yield phrase, Term(Mark("taken_for"), "cue")


def _modifiers() -> Iterator[tuple[str, Term]]:
  for value, phrases in modifiers.CHANGES.items():
    for text in _first_words_do(phrases):
      bare = " " in text or value == "resolved" or text in _BARE_CHANGES
      yield text, Term(Mark("change", value), "" if bare else "modifier")
  for value, phrases in modifiers.SIDES.items():
    for text in _first_words_do(phrases):
      yield text, Term(Mark("side", value), "" if " " in text else "modifier")
  yield "both", Term(Mark("side", ("left", "right")), "modifier")
  for value, phrases in modifiers.GRADES.items():
    for text in _first_words_do(phrases):
      yield text, Term(Mark("grade", value), "modifier")
  for phrase in QUALITIES:
    yield phrase, Term(Mark("ignored"), "modifier")
  for phrase in PLACES:
    yield phrase, Term(Mark("place", ((), "")), "modifier")


def _anatomy() -> Iterator[tuple[str, Term]]:
  for phrase in STRUCTURES:
    yield phrase, Term(Mark("subject"), "anatomy")
  for phrase in SITES:
    yield phrase, Term(Mark("place", ((), "")), "anatomy")
  for phrase in PARTS:
    yield phrase, Term(Mark("subject"), "part")
  for phrase in MEASURES:
    yield phrase, Term(Mark("ignored"), "measure")


def _observations() -> Iterator[tuple[str, Term]]:
  states = {
    "normal": (*modifiers.NORMAL, *NORMAL),
    "abnormal": (*modifiers.ABNORMAL, *ABNORMAL),
    "borderline": modifiers.BORDERLINE,
  }
  for kind, phrases in states.items():
    for text in _first_words_do(phrases):
      denies = text.split()[0] in ("not", "non", "un", "within")
      if not denies and text != "borderline":
        yield text, Term(Mark(kind), "observation")
  yield "borderline", Term(Mark("borderline"), "modifier")
  anatomy = {text for phrase, _ in _anatomy() for text in expand(phrase)}
  leading = anatomy | {text for phrase, _ in _modifiers() for text in expand(phrase)}
  leading.update(_spellings(modifiers.ABNORMAL))
  for phrases in terms.FINDINGS.values():
    for text in _stripped(phrases, leading, anatomy):
      yield text, Term(Mark("finding"), "observation")
  for phrase in OBSERVATIONS:
    yield phrase, Term(Mark("finding"), "observation")
  for phrase in (*(p for row in terms.DEVICES.values() for p in row), *OBJECTS):
    yield phrase, Term(Mark("device"), "observation")


INDEX = index([*_grammar(), *_modifiers(), *_anatomy(), *_observations()])
