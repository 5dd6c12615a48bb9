"""The programs of COCO's evaluation, by what its own Python makes of them."""

import numpy as np
import pytest

from jaxrg.metrics import coco

PREDICTIONS = [
  "The heart is enlarged. There's a small left-sided effusion (3.5 cm).",
  "No pneumothorax,\r\nor effusion.",
  "...",
  "",
]
REFERENCES = [
  "Heart size is enlarged; small left effusion.",
  "No effusion or pneumothorax.",
  "Clear lungs.",
  "Normal.",
]

needs_java = pytest.mark.skipif(bool(coco.missing()), reason=str(coco.missing()))


@needs_java
def test_meteor_is_that_of_pycocoevalcap():
  corpus, each = coco.meteor(PREDICTIONS, REFERENCES)
  assert corpus == pytest.approx(0.2522116671475032, abs=1e-12)
  expected = [0.3046456025830859, 0.3934426229508197, 0.0, 0.0]
  np.testing.assert_allclose(each, expected, atol=1e-12)


@needs_java
def test_tokens_are_those_of_pycocoevalcap():
  assert coco.tokenise(PREDICTIONS) == [
    "the heart is enlarged there 's a small left-sided effusion -lrb- 3.5 cm -rrb-",
    "no pneumothorax or effusion",
    "",
    "",
  ]


@needs_java
def test_a_text_cannot_end_the_question_that_it_is_in():
  plain, told = (coco.meteor([text], ["b c"]) for text in ("b c", "b ||| c"))
  assert plain[0] == told[0] > 0


@needs_java
def test_a_program_that_fails_is_told(monkeypatch, tmp_path):
  monkeypatch.setattr(coco, "_folder", lambda: tmp_path)
  with pytest.raises(ValueError, match=r"METEOR failed: .*meteor-1\.5\.jar"):
    coco.meteor(["a"], ["b"])
  with pytest.raises(ValueError, match="Stanford's tokenizer failed: "):
    coco.tokenise(["a"])


def test_without_java_the_reason_is_told(monkeypatch):
  monkeypatch.setattr(coco.shutil, "which", lambda name: None)
  assert coco.missing() == "no java on the PATH"
  monkeypatch.setattr(coco, "_folder", lambda: None)
  assert "pip install" in coco.missing()
