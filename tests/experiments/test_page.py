"""The page of studies side by side."""

import re

import pytest

from data_pipelines import cli, datasets, loader
from data_pipelines.records import LABELS
from jaxrg import writer
from jaxrg.experiments import page

NASTY = '<script>alert(1)</script> & <img src="http://example.org/x"> effusion.'


@pytest.fixture(scope="module")
def source():
  whole = datasets.load("thorax/tiny", "test")
  nasty = {name: NASTY.encode() for name in ("findings", "indication", "view")}
  return [whole[i] | (nasty if i == 0 else {}) for i in range(12)]


@pytest.fixture(scope="module")
def written(source):
  meta = writer.Meta(source)
  reports = ("No pneumothorax.", "Pleural effusion on the left, new.", NASTY)
  return {
    f"{name} <trial>": [writer.row(record, text) for record in meta]
    for name, text in zip("abc", reports)
  }


def articles(html):
  return html.split("<article>")[1:]


def test_every_study_has_every_trial(source, written):
  html = page.render("Which?", source, written, 4)
  assert len(articles(html)) == 4
  for i, article in zip((0, 4, 7, 11), articles(html)):
    record = loader.parse(source, i)
    names = re.findall("<dt>(.*?)</dt>", article)
    assert names == ["reference", *(f"{name} &lt;trial&gt;" for name in "abc")]
    assert article.count("<figure>") == 1 + (record["prior"] >= 0)
    assert "No pneumothorax." in article
    if i:
      assert record["findings"] in article
  assert cli.INTENDED_USE in html


def test_no_more_studies_than_there_are(source, written):
  assert len(articles(page.render("Which?", source, written, 100))) == len(source)


def test_text_is_text(source, written):
  html = page.render("<i>Which?</i>", source, written, 12)
  assert "<script" not in html
  assert "<i>" not in html
  assert "<trial>" not in html
  # One study's reference, view and indication; a report of every one; captions of
  # those whose prior the one study is.
  priors = sum(record["prior"] == 0 for record in source)
  count = html.count("&lt;script&gt;alert(1)&lt;/script&gt; &amp;")
  assert count == 3 + 12 + priors


def test_it_fetches_nothing(source, written):
  html = page.render("Which?", source, written, 12)
  assert "default-src 'none'" in html
  links = re.findall(r'<[^>]*\b(?:src|href|url)\b="?([^">]*)', html)
  assert links
  assert all(link.startswith("data:image/png;base64,") for link in links)


def test_what_is_right_and_wrong_is_marked(source, written):
  """Of the first study with an effusion, and the first without."""
  html = page.render("Which?", source, written, 12)
  name = "Pleural Effusion"
  for record, article in zip(writer.Meta(source), articles(html)):
    row = writer.row(record, "")
    there = bool(row["labels"][LABELS.index(name)] == 1)
    second = article.split("<dt>")[3]
    assert f'<span class="{"right" if there else "wrong"}">' in second
    assert (f">+{name}<" in second) == (not there)
