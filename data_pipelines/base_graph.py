"""The part of a graph that all studies share, and the words that stand for its nodes.

Nodes and groups are the published table (spec eir 4.1, "clcatrix" spelt right). A form
of FORMS stands for the node that it names, or for the nearest node that it is a kind
or a part of. CheXpert's classes decide the kinds: a nodule is a lesion, a tube a
support device. What the table has no node for (a lobe, the aorta) is left as it is and
may become a node of its own.
"""

import itertools
import re

ROOT, GENERAL, ORGAN, OBSERVATION, MODIFIER = range(5)
NO_GROUP = 11
SELF, LINK, ORGANS, WITHIN, MODIFY, LOCATED_AT, SUGGESTIVE_OF = range(7)

# Name, kind, group. No text yields the name of the root: `canonical` drops brackets.
NODES = (
  ("(root)", ROOT, 0),
  ("normal", GENERAL, 1),
  ("other finding", GENERAL, 2),
  ("heart", ORGAN, 3),
  ("cardiomegaly", OBSERVATION, 3),
  ("spine", ORGAN, 4),
  ("scoliosis", OBSERVATION, 4),
  ("pleural", ORGAN, 5),
  ("effusion", OBSERVATION, 5),
  ("thickening", OBSERVATION, 5),
  ("pneumothorax", OBSERVATION, 5),
  ("bone", ORGAN, 6),
  ("bone fractures", OBSERVATION, 6),
  ("lung", ORGAN, 7),
  ("emphysema", OBSERVATION, 7),
  ("pneumonia", OBSERVATION, 7),
  ("edema", OBSERVATION, 7),
  ("atelectasis", OBSERVATION, 7),
  ("cicatrix", OBSERVATION, 7),
  ("opacity", OBSERVATION, 7),
  ("lesion", OBSERVATION, 7),
  ("mediastinum", ORGAN, 8),
  ("hernia", OBSERVATION, 8),
  ("calcinosis", OBSERVATION, 8),
  ("foreign object", GENERAL, 9),
  ("airspace", ORGAN, 10),
  ("airspace disease", OBSERVATION, 10),
  ("hypoinflation", OBSERVATION, 10),
)
NAMES, KINDS, GROUPS = zip(*NODES)

# Canonical name -> its other forms, in the singular.
FORMS = {
  "normal": ("clear", "unremarkable", "intact", "within normal limit"),
  "heart": (
    *("cardiac", "heart size", "heart shadow", "heart silhouette", "cardiac size"),
    *("cardiac silhouette", "cardiac shadow", "cardiac contour"),
  ),
  "cardiomegaly": (
    *("enlarged heart", "heart enlargement", "cardiac enlargement"),
    *("enlarged cardiac silhouette", "enlarged heart size"),
  ),
  "spine": (
    *("spinal", "vertebra", "vertebral", "vertebral body", "vertebral column"),
    *("thoracic spine", "lumbar spine", "dorsal spine"),
  ),
  "scoliosis": ("scoliotic", "dextroscoliosis", "levoscoliosis"),
  # The costophrenic sulcus is a recess of the pleura.
  "pleural": (
    *("pleura", "pleural space", "pleural surface", "costophrenic"),
    *("costophrenic angle", "costophrenic sulcus"),
  ),
  "effusion": ("pleural effusion", "pleural fluid", "hydrothorax"),
  "thickening": ("pleural thickening", "thickened"),
  "pneumothorax": ("ptx",),
  "bone": (
    *("bony", "osseous", "osseous structure", "bony structure", "bony thorax"),
    *("skeletal", "skeleton", "rib", "clavicle", "scapula", "sternum", "humerus"),
  ),
  "bone fractures": (
    *("fracture", "fractured", "fx", "bone fracture", "rib fracture", "broken rib"),
    *("compression fracture", "vertebral fracture", "clavicle fracture"),
  ),
  "lung": ("pulmonary", "parenchyma", "parenchymal", "lung field", "lung parenchyma"),
  "emphysema": ("emphysematous", "pulmonary emphysema"),
  "pneumonia": ("pneumonic", "bronchopneumonia", "lobar pneumonia"),
  "edema": ("oedema", "pulmonary edema", "interstitial edema", "alveolar edema"),
  # Bare "collapse" may be of a vertebra.
  "atelectasis": ("atelectatic", "lung collapse", "lobar collapse"),
  "cicatrix": ("scar", "scarring", "scarred"),
  # The Fleischner glossary has "opacity" in the place of "infiltrate".
  "opacity": (
    *("opacification", "opacified", "density", "infiltrate", "infiltration", "haze"),
    *("haziness", "lung opacity", "pulmonary opacity", "shadowing"),
  ),
  "lesion": (
    *("nodule", "mass", "granuloma", "tumor", "tumour", "neoplasm", "lung nodule"),
    *("pulmonary nodule", "lung mass", "pulmonary mass", "lung lesion"),
  ),
  # The cardiomediastinum is more than the heart; CheXpert calls it a class of its own.
  "mediastinum": (
    *("mediastinal", "mediastinal contour", "mediastinal silhouette"),
    *("cardiomediastinum", "cardiomediastinal", "cardiomediastinal contour"),
    *("cardiomediastinal silhouette",),
  ),
  "hernia": ("hiatal hernia", "hiatus hernia"),
  "calcinosis": ("calcification", "calcified", "calcific"),
  "foreign object": (
    *("foreign body", "device", "support device", "hardware", "tube", "catheter"),
    *("central line", "picc", "picc line", "lead", "wire", "clip", "suture", "stent"),
    *("pacemaker", "prosthesis", "implant", "endotracheal tube", "chest tube"),
    *("nasogastric tube", "enteric tube", "drain"),
  ),
  "airspace": ("air space", "alveolus", "alveolar"),
  # Consolidation is, in the Fleischner glossary, a filling of the airspace by disease.
  "airspace disease": (
    *("consolidation", "consolidated", "consolidative", "air space disease"),
    *("airspace opacity", "air space opacity", "airspace consolidation"),
    *("alveolar opacity",),
  ),
  "hypoinflation": (
    *("low lung volume", "low volume", "hypoinflated", "underinflation"),
    *("poor inspiration", "shallow inspiration", "hypoaeration"),
  ),
  "aorta": ("aortic", "thoracic aorta"),
  "hilum": ("hilar", "hilus"),
  "diaphragm": ("diaphragmatic", "hemidiaphragm"),
}
SYNONYMS = {form: name for name, forms in FORMS.items() for form in forms}

# Plurals that no rule makes singular.
IRREGULAR = {
  "alveoli": "alveolus",
  "apices": "apex",
  "atelectases": "atelectasis",
  "bases": "base",
  "bronchi": "bronchus",
  "diagnoses": "diagnosis",
  "hila": "hilum",
  "metastases": "metastasis",
  "pleurae": "pleura",
  "pneumothoraces": "pneumothorax",
  "prostheses": "prosthesis",
  "sulci": "sulcus",
  "vertebrae": "vertebra",
}

# Whatever is called by one of these at last is a device: a tracheostomy tube.
DEVICES = frozenset(
  ("catheter", "clip", "drain", "lead", "stent", "suture", "tube", "wire")
)

# What says nothing of this study rather than another: no entity at all. A contour or a
# size is a part of what it is of, and in every report.
STOP = frozenset(
  (
    *("", "abnormality", "appearance", "change", "chest", "comparison", "contour"),
    *("disease", "evidence", "exam", "examination", "film", "finding", "image"),
    *("other", "patient", "process", "radiograph", "silhouette", "size", "study"),
    *("thorax", "view", "volume", "x ray", "xray"),
  )
)


def canonical(name: str) -> str:
  """The one form of an entity's name: lower case, singular, of FORMS where it is there.

  It is empty for a stop entity. Applied twice it gives what it gives once.
  """
  words = re.findall(r"[a-z0-9]+", name.lower())
  if (text := " ".join(words)) not in NAMES:
    text = " ".join(map(_singular, words))
    text = SYNONYMS.get(text, text)
    text = "foreign object" if text.rpartition(" ")[2] in DEVICES else text
  return "" if text in STOP else text


def _singular(word: str) -> str:
  if word in IRREGULAR:
    return IRREGULAR[word]
  if len(word) < 4 or re.search(r"(ss|is|us)$", word):
    return word
  if word.endswith("ies"):
    return word[:-3] + "y"
  if re.search(r"(ss|x|ch|sh)es$", word):
    return word[:-2]
  return word.removesuffix("s")


def _edges() -> dict[tuple[int, int], int]:
  organs = [node for node, kind in enumerate(KINDS) if kind == ORGAN]
  nodes = range(1, len(NODES))
  pairs = {(0, node): LINK for node in nodes}
  pairs |= dict.fromkeys(itertools.combinations(organs, 2), ORGANS)
  within = (p for p in itertools.combinations(nodes, 2) if GROUPS[p[0]] == GROUPS[p[1]])
  pairs |= dict.fromkeys(within, WITHIN)
  loops = {(node, node): SELF for node in range(len(NODES))}
  return loops | pairs | {(b, a): kind for (a, b), kind in pairs.items()}


# (sender, receiver) -> kind: self-loops and 91 pairs, each in both directions.
EDGES = _edges()
