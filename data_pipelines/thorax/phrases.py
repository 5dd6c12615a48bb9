"""The words of the reports: a limited set of phrases, made many by recombination.

A sentence says what is there first, then where, how much of it, and what became of
it since the prior study; only there, too, are words of change used. A reporter
writes whole sentences or keywords, and stays with it through a report.
"""

_SIZE = {"mild": "small", "moderate": "moderate", "severe": "large"}
_DEGREE = {"mild": "mild", "moderate": "moderate", "severe": "severe"}
_DISPLACED = {grade: f"{grade}ly displaced" for grade in _DEGREE}
_LOBE = " in the {side} {lobe} lobe"
_SIDE = " on the {side}"

# Label -> (article or "", noun, place, words for a grade).
FINDINGS = {
  "Pleural Effusion": ("a", "pleural effusion", _SIDE, _SIZE),
  "Pneumothorax": ("a", "pneumothorax", _SIDE, _SIZE),
  "Lung Lesion": ("a", "nodule", _LOBE, _SIZE),
  "Lung Opacity": ("an", "opacity", _LOBE, _DEGREE),
  "Consolidation": ("", "consolidation", _LOBE, _DEGREE),
  "Atelectasis": ("", "atelectasis", _LOBE, _DEGREE),
  "Edema": ("", "pulmonary edema", "", _DEGREE),
  "Cardiomegaly": ("", "cardiomegaly", "", _DEGREE),
  "Enlarged Cardiomediastinum": ("", "widening of the mediastinum", "", _DEGREE),
  "Pleural Other": ("", "pleural thickening", _SIDE, _DEGREE),
  "Fracture": ("a", "rib fracture", _SIDE, _DISPLACED),
}
CHANGES = {
  "": "",
  "new": " and new",
  "larger": " and increased",
  "smaller": " and decreased",
  "unchanged": " and unchanged",
}
RESOLVED = ("has resolved", "is no longer seen")
CAUSE = ", due to {cause}"

# Device -> (name, where it ends); the name takes a side where the device has one.
DEVICES = {
  "ett": ("endotracheal tube", "ends above the carina"),
  "ngt": ("nasogastric tube", "ends in the stomach"),
  "central_line": ("{side} central line", "ends in the SVC"),
  "chest_tube": ("{side} chest tube", "is in place"),
  "pacemaker": ("{side} pacemaker", "is in place"),
}
DEVICE_CHANGES = {
  "": ("{device} {position}",),
  "new": ("{device} is new and {position}", "{device} is new"),
  "unchanged": ("{device} is unchanged", "{device} is stable"),
  "resolved": ("{device} has been removed",),
}

# Of a whole region; each in whole sentences, and in keywords.
LUNGS_CLEAR = (
  ("the lungs are clear", "both lungs are clear"),
  ("lungs are clear", "clear lungs"),
)
NORMAL_HEART = (("the heart is normal in size",), ("heart size is normal",))
NORMAL_MEDIASTINUM = (("the mediastinum is normal",), ("normal mediastinum",))
NORMAL_HEART_AND_MEDIASTINUM = (
  ("the heart and mediastinum are normal", "the heart is normal in size"),
  ("normal heart and mediastinum", "heart size is normal"),
)
# What is not there, of which it is said that there is none.
NO_FLUID_OR_AIR = (
  "pleural effusion or pneumothorax",
  "pneumothorax or pleural effusion",
)
DENIED = {
  "Pleural Effusion": ("pleural effusion",),
  "Pneumothorax": ("pneumothorax",),
  "Consolidation": ("focal consolidation", "consolidation"),
  "Pneumonia": ("evidence of pneumonia", "sign of pneumonia"),
  "Atelectasis": ("atelectasis",),
  "Edema": ("pulmonary edema",),
  "Lung Lesion": ("pulmonary nodule",),
  "Fracture": ("rib fracture", "fracture"),
  "Support Devices": ("lines or tubes",),
}
PLURAL = ("lines or tubes",)

VIEWS = {
  ("PA",): "PA view",
  ("AP",): "AP view",
  ("PA", "LATERAL"): "PA and lateral views",
}
COMPARED = " compared to prior"
NORMAL = ("no acute abnormality", "no acute finding", "no acute disease")
