"""What reports speak of: findings, devices, and the parts of the body.

In a phrase, `[x]` is optional and `(x|y)` is a choice; a hyphen or a slash in the
text is a space. A row more is all that a new wording takes.
"""

from typing import NamedTuple


class Subject(NamedTuple):
  """Part of the body: what is denied where it is normal, what is said otherwise."""

  denied: tuple[str, ...]
  asserted: str = ""
  status: str = "present"


# Put in other words before anything is looked up.
SPELT_OUT = (
  ("can't", "cannot"),
  ("n't", " not"),
  ("there's", "there is"),
  ("extubation", "endotracheal tube removed"),
  ("extubated", "endotracheal tube removed"),
  ("intubated", "endotracheal tube"),
  ("lung is clear", "lungs are clear"),
)

FINDINGS = {
  ("Pleural Effusion",): (
    "[pleural] effusion[s]",
    "(pleural|subpulmonic|loculated) fluid",
    "fluid in the [(left|right)] pleural space",
    "hydrothorax",
    "hemothorax",
    "haemothorax",
    "empyema",
  ),
  ("Pneumothorax", "Pleural Effusion"): ("hydropneumothorax", "hemopneumothorax"),
  ("Pneumothorax",): (
    "(pneumothorax|pneumothoraces|ptx)",
    "(pleural air|[pleural] air collection) [collection]",
    "air in the [(left|right)] pleural space",
  ),
  ("Lung Lesion",): (
    "[(pulmonary|lung)] nodule[s]",
    "[(pulmonary|lung)] mass[es]",
    "nodular (opacity|opacities|density|densities|lesion|lesions)",
    "(pulmonary|lung|cavitary) lesion[s]",
    "cavitary (nodule|mass)",
    "metastasis",
    "metastases",
    "metastatic disease",
    "(granuloma|granulomas|granulomatous calcification[s])",
    "(tumor|tumour|neoplasm|malignancy)",
  ),
  ("Lung Opacity",): (
    "[(airspace|air space|pulmonary|lung|parenchymal|interstitial)] "
    "(opacity|opacities|opacification|opacifications|infiltrate|infiltrates)",
    "(airspace|air space) disease",
    "(increased|prominent|coarse) interstitial markings",
    "(haziness|hazy density|ground glass|airspace process)",
    "(patchy|hazy|focal|ill defined|streaky|linear|vague|basilar|airspace) "
    "(density|densities)",
  ),
  ("Consolidation",): (
    "[(airspace|air space|focal|lobar|pulmonary)] consolidation[s]",
    "consolidative (opacity|opacities|change|changes|process)",
    "consolidated",
  ),
  ("Pneumonia",): (
    "pneumonia[s]",
    "bronchopneumonia",
    "(infection|infectious process|infectious etiology|infectious)",
    "aspiration",
  ),
  ("Atelectasis",): (
    "atelectasis",
    "atelectases",
    "atelectatic (change|changes|opacity|opacities)",
    "(lobar|lung) collapse",
    "collapse",
  ),
  ("Edema",): (
    "[(pulmonary|interstitial|alveolar)] (edema|oedema)",
    "pulmonary interstitial edema",
    "[(pulmonary|central)] [(vascular|venous)] congestion",
    "(vascular engorgement|cephalization)",
    "[congestive] heart failure",
    "(chf|fluid overload|volume overload)",
  ),
  ("Cardiomegaly",): ("cardiomegaly", "(cardiac|heart) enlargement"),
  ("Enlarged Cardiomediastinum",): (
    "[(superior|upper)] mediastinal (widening|enlargement|hematoma)",
    "enlarged cardiomediastinum",
  ),
  ("Pleural Other",): (
    "(pleural|apical pleural|pleuroparenchymal|fissural) "
    "(thickening|plaque|plaques|scarring|scar|calcification|calcifications)",
    "fibrothorax",
    "calcified pleural plaque[s]",
  ),
  ("Fracture",): (
    "[(rib|clavicle|clavicular|sternal|humeral|vertebral|compression)] "
    "(fracture|fractures)",
    "fractured (rib|ribs|clavicle)",
    "(broken|fractured) rib[s]",
  ),
}

# What takes up adjectives and changes without being a finding of ours.
OTHER = (
  "aeration",
  "pericardial (effusion|effusions|fluid)",
  "(catheter|lead|wire|wires|screw|hardware|clip) fracture[s]",
  "fractured [(median|sternal)] [sternotomy] (wire|wires|lead|catheter|screw)",
  "(soft tissue|subcutaneous) edema",
  "granulomatous infection",
  "lung volume[s]",
  "(inspiration|inspiratory effort)",
  "[hemi](diaphragm|diaphragms)",
  "aorta",
  "thoracic aorta",
  "(hilum|hila|hilar contours)",
  "(spine|scoliosis)",
  "(carina|stomach)",
  "(scarring|scar|scars|fibrosis|emphysema)",
)

DEVICES = {
  "ett": (
    "endotracheal [tube]",
    "et tube",
    "ett",
    "tracheostomy [tube]",
  ),
  "ngt": (
    "(nasogastric|orogastric|enteric|feeding|dobhoff|ng|og) tube",
    "(nasogastric|orogastric)",
    "ngt",
  ),
  "central_line": (
    "[central] venous (catheter|line)",
    "central (line|catheter|venous access)",
    "picc [line]",
    "(internal jugular|ij|jugular|subclavian) [central] [venous] (line|catheter)",
    "(port|port a cath|portacath|dialysis catheter|hemodialysis catheter)",
    "swan ganz [catheter]",
  ),
  "pacemaker": (
    "[dual chamber] (pacemaker|pacer|pacing device|icd|defibrillator) [lead[s]]",
    "(pacing|pacer) (lead|leads|wire|wires)",
  ),
  "chest_tube": (
    "(chest|thoracostomy|pleural) (tube|tubes|drain|drains|catheter)",
    "pigtail [catheter]",
  ),
  "other": (
    "(support|monitoring|closure|assist|implanted) (device|devices)",
    "[(monitor|monitoring|ecg|ekg)] leads",
    "[(cardiac|pulse)] generator",
    "(catheter|catheters|stent|stents)",
    "(line|lines|tubes) and (tube|tubes|lines)",
    "(line|lines) or (tube|tubes)",
    "[median] sternotomy wires",
    "(prosthetic|mechanical|bioprosthetic|artificial) [(aortic|mitral|heart)] valve[s]",
    "valve replacement[s]",
    "(shunt|shunt catheter|shunt tubing)",
    "(hardware|arthroplasty|drain|drains|cannula|mediport|loop recorder)",
  ),
}

SUBJECTS = {
  Subject(("Cardiomegaly",), "Cardiomegaly"): (
    "(heart|cardiac size|heart size|cardiac silhouette|heart shadow)",
    "(cardiac (contour|contours|shadow)|size of the (heart|cardiac silhouette))",
  ),
  Subject(("Enlarged Cardiomediastinum",), "Enlarged Cardiomediastinum"): (
    "[superior] (mediastinum|mediastinal (contour|contours|silhouette))",
    "(mediastinal|cardiomediastinal) (structures|widths|width)",
  ),
  Subject(
    ("Cardiomegaly", "Enlarged Cardiomediastinum"), "Enlarged Cardiomediastinum"
  ): (
    "cardiomediastinal (silhouette|silhouettes|contour|contours|border|borders)",
    "(cardiac and mediastinal|cardiomediastinal and hilar) "
    "(silhouette|silhouettes|contour|contours)",
  ),
  Subject(("Lung Opacity", "Consolidation")): ("(lungs|lung fields|lung parenchyma)",),
  Subject(("Edema",), "Edema"): (
    "[(central|lung)] [pulmonary] (vasculature|vascularity|vascular markings)",
    "pulmonary vessels",
  ),
  Subject(("Pleural Effusion", "Pneumothorax")): (
    "pleural (space|spaces|surface|surfaces)",
  ),
  Subject(("Pleural Effusion",), "Pleural Effusion", "uncertain"): (
    "[costophrenic] (sulcus|sulci)",
    "costophrenic angle[s]",
  ),
  Subject(("Fracture",)): (
    "(bones|ribs|osseous structures|bony structures|bony thorax|skeleton)",
    "(osseous thorax|skeletal structures|clavicles)",
  ),
}
