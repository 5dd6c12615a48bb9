import dataclasses
import random

import pytest

from data_pipelines.raw import priors
from data_pipelines.raw.studies import Film, Study

VIEWS = ("PA", "AP", "LATERAL")


def study(name, time="", views=("PA",), patient="p", **more):
  films = tuple(Film(f"{name}-{i}", f"{name}/{i}.jpg", v) for i, v in enumerate(views))
  return Study(patient, name, films, time=time, **more)


def day(number, clock="12:00:00"):
  return f"2150-03-{number:02d}T{clock}"


def found(studies, order="time", unreadable=()):
  """The prior film of each study's first film."""
  links = priors.link(studies, order=order, views=VIEWS, unreadable=unreadable)
  return {
    s.study_id: links[s.films[0].id].film.id
    for s in studies
    if s.films and s.films[0].id in links
  }


def test_time_decides_whatever_the_ids():
  ids = [str(50000000 + n) for n in range(20)]
  random.Random(3).shuffle(ids)
  given = [study(name, day(n + 1)) for n, name in enumerate(ids)]
  expected = {ids[n]: f"{ids[n - 1]}-0" for n in range(1, 20)}
  random.Random(4).shuffle(given)
  assert found(given) == expected
  links = priors.link(given, order="time", views=VIEWS)
  assert priors.check(given, links) == priors.Check(19, [], [])


def test_reversals_of_the_order_by_id_are_found():
  given = [study("1", day(3)), study("2", day(1)), study("3", day(4)), study("4")]
  links = priors.link(given, order="study_id", views=VIEWS)
  assert found(given, "study_id") == {"2": "1-0", "3": "2-0", "4": "3-0"}
  assert priors.check(given, links) == priors.Check(1, ["2"], ["4"])
  assert links["2-0"].gap_days == -2
  assert links["4-0"].gap_days is None


def test_ids_are_compared_as_numbers():
  assert found([study("9"), study("10")], "study_id") == {"10": "9-0"}


def test_on_one_day_the_clock_decides():
  given = [study("8", day(1, "09:00:00")), study("7", day(1, "21:00:00"))]
  assert found(given) == {"7": "8-0"}
  links = priors.link(given, order="time", views=VIEWS)
  assert links["7-0"].gap_days == 0.5


def test_of_one_second_none_is_before_the_other():
  given = [study("1", day(1)), study("2", day(1)), study("3", day(2))]
  assert found(given) == {"3": "2-0"}
  links = priors.link(given, order="study_id", views=VIEWS)
  assert priors.check(given, links).not_earlier == ["2"]


def test_without_a_time_there_is_no_before():
  assert found([study("1"), study("2", day(2)), study("3")]) == {}


def test_only_the_patients_own_studies_count():
  given = [study("1", day(1), patient="a"), study("2", day(2), patient="b")]
  assert found(given) == {}
  assert found(given, "study_id") == {}


def test_a_study_without_a_report_is_a_prior():
  first = study("1", day(1), has_report=False)
  assert found([first, study("2", day(2))]) == {"2": "1-0"}


@pytest.mark.parametrize("order", priors.ORDERS)
def test_a_study_without_a_usable_film_is_passed_over(order):
  given = [
    study("1", day(1)),
    study("2", day(2), views=("unk",)),
    study("3", day(3)),
    study("4", day(4), views=()),
    study("5", day(5)),
  ]
  assert found(given, order, unreadable={"3-0"})["5"] == "1-0"
  assert found(given, order)["5"] == "3-0"


@pytest.mark.parametrize(
  ("views", "unreadable", "expected"),
  [
    (("LATERAL", "AP", "PA"), (), "1-2"),
    (("LATERAL", "AP"), (), "1-1"),
    (("AP", "AP"), (), "1-0"),
    (("LATERAL", "PA", "PA"), {"1-1"}, "1-2"),
    (("unk", "LATERAL"), (), "1-1"),
  ],
  ids=["same", "next best", "first of equals", "readable", "usable"],
)
def test_the_same_view_comes_first_then_the_best(views, unreadable, expected):
  given = [study("1", day(1), views=views), study("2", day(2))]
  assert found(given, unreadable=unreadable) == {"2": expected}


def test_each_film_of_a_study_has_its_own_prior():
  given = [
    study("1", day(1), views=("PA", "LATERAL")),
    study("2", day(2), views=("LATERAL", "PA", "LL")),
  ]
  links = priors.link(given, order="time", views=VIEWS)
  assert {film: prior.film.id for film, prior in links.items()} == {
    "2-0": "1-1",
    "2-1": "1-0",
    "2-2": "1-0",
  }


def test_one_prior_that_is_not_earlier_makes_a_study_not_earlier():
  late, early = study("1", day(9)), study("2", day(1))
  current = study("3", day(5), views=("PA", "AP"))
  links = {
    "3-0": priors.Prior(early, early.films[0]),
    "3-1": priors.Prior(late, late.films[0]),
  }
  assert priors.check([current], links).not_earlier == ["3"]
  timeless = dataclasses.replace(current, time="")
  assert priors.check([timeless], links).unknown == ["3"]


def test_an_unknown_order_is_refused():
  with pytest.raises(ValueError, match="by time or study_id, not 'date'"):
    priors.link([], order="date", views=VIEWS)
