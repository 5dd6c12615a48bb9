"""The words of the reports: a limited set of phrases, made many by recombination.

In a frame, {np} is a noun phrase ("small left pleural effusion"), {a} its article
or nothing, {place} the same without its size, {are} and {have} agree with it. The
frames of a change are used where there is a prior study, and only there.
"""

_SIZE = {"mild": "small", "moderate": "moderate", "severe": "large"}
_DEGREE = {"mild": "mild", "moderate": "moderate", "severe": "severe"}
ADVERBS = {"mild": "mildly", "moderate": "moderately", "severe": "severely"}
_DISPLACED = {grade: f"{adverb} displaced" for grade, adverb in ADVERBS.items()}

# Label -> (article or "", words for a grade, noun phrases).
NOUNS = {
  "Pleural Effusion": ("a", _SIZE, ("{side} pleural effusion",)),
  "Pneumothorax": ("a", _SIZE, ("{side} pneumothorax",)),
  "Lung Lesion": (
    "a",
    _SIZE,
    ("{side} {lobe} lobe nodule", "nodule in the {side} {lobe} lobe"),
  ),
  "Lung Opacity": (
    "a",
    _DEGREE,
    ("{side} {lobe} lobe opacity", "opacity in the {side} {lobe} lobe"),
  ),
  "Consolidation": (
    "",
    _DEGREE,
    ("{side} {lobe} lobe consolidation", "consolidation in the {side} {lobe} lobe"),
  ),
  "Atelectasis": (
    "",
    _DEGREE,
    ("{side} {lobe} lobe atelectasis", "atelectasis in the {side} {lobe} lobe"),
  ),
  "Edema": ("", _DEGREE, ("pulmonary edema",)),
  "Cardiomegaly": ("", _DEGREE, ("cardiomegaly",)),
  "Enlarged Cardiomediastinum": ("", _DEGREE, ("widening of the mediastinum",)),
  "Pleural Other": ("", _DEGREE, ("{side} pleural thickening",)),
  "Fracture": ("a", _DISPLACED, ("{side} rib fracture",)),
}

FRAMES = {
  "": (
    "there {are} {a}{np}",
    "{a}{np} {are} seen",
    "{np}",
  ),
  "new": (
    "there {are} {a}new {np}",
    "{a}{np} {are} new",
    "new {np}",
    "{a}{np} {have} developed",
  ),
  "larger": (
    "{np} {have} increased",
    "increased {np}",
    "{np} {have} worsened",
    "worsening {np}",
  ),
  "smaller": (
    "{np} {have} decreased",
    "decreased {np}",
    "{np} {have} improved",
    "improving {np}",
  ),
  "unchanged": (
    "{np} {are} unchanged",
    "unchanged {np}",
    "{np} {are} stable",
    "stable {np}",
  ),
  "resolved": (
    "the {place} {have} resolved",
    "{place} {are} no longer seen",
    "resolved {place}",
  ),
}

# Subject -> how its enlargement is said; {grade} is an adverb.
ENLARGED = {
  "Cardiomegaly": "the heart is {grade} enlarged",
  "Enlarged Cardiomediastinum": "the mediastinum is {grade} widened",
}
ENLARGED_TAILS = {
  "": ("",),
  "new": (", new since the prior study",),
  "larger": (", larger than before", ", increased since the prior study"),
  "smaller": (", smaller than before", ", decreased since the prior study"),
  "unchanged": (", unchanged", ", as before"),
}

CAUSES = (", consistent with {cause}", ", compatible with {cause}", ", due to {cause}")

# Device -> (name, where it ends); the name takes a side where the device has one.
DEVICES = {
  "ett": ("endotracheal tube", "ends above the carina"),
  "ngt": ("nasogastric tube", "ends in the stomach"),
  "central_line": ("{side} central line", "ends in the SVC"),
  "chest_tube": ("{side} chest tube", "is in place"),
  "pacemaker": ("{side} pacemaker", "is in place"),
}
DEVICE_FRAMES = {
  "": ("{a}{device} {position}", "{device} {position}"),
  "new": ("a new {device} {position}", "new {device} {position}"),
  "unchanged": ("unchanged {device}", "{device} is unchanged"),
  "resolved": ("{device} has been removed", "the {device} has been removed"),
}

LUNGS_CLEAR = ("the lungs are clear", "clear lungs", "both lungs are clear")
NO_CONSOLIDATION = ("no focal consolidation", "there is no consolidation")
NO_EDEMA = ("no pulmonary edema", "there is no edema")
NO_FLUID_OR_AIR = (
  "no pleural effusion or pneumothorax",
  "there is no pneumothorax or pleural effusion",
  "no pneumothorax or pleural effusion is seen",
)
NO_EFFUSION = ("no pleural effusion", "there is no pleural effusion")
NO_PNEUMOTHORAX = ("no pneumothorax", "there is no pneumothorax")
NORMAL_HEART_AND_MEDIASTINUM = (
  "the heart and mediastinum are normal",
  "normal heart and mediastinum",
)
NORMAL_HEART = ("the heart is normal in size", "heart size is normal")
NORMAL_MEDIASTINUM = ("the mediastinum is normal", "normal mediastinum")
NO_FRACTURE = ("no rib fracture", "there is no fracture", "the ribs are intact")
NO_DEVICES = ("no lines or tubes", "there are no lines or tubes")
NORMAL = ("no acute abnormality", "no acute finding", "no acute disease")
