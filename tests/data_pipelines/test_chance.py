import numpy as np

from data_pipelines.chance import uniform


def test_it_depends_on_the_key_alone():
  assert uniform(3, "a", "b") == uniform(3, "a", "b") == uniform("3", "a", "b")
  assert len({uniform(3, "a"), uniform(4, "a"), uniform(3, "b"), uniform(3)}) == 4
  assert uniform(0, "study") == 0.8418246263359325  # On every machine.


def test_it_is_uniform():
  drawn = np.array([uniform(i) for i in range(4000)])
  assert drawn.min() >= 0
  assert drawn.max() < 1
  assert (abs(np.histogram(drawn, 10, (0, 1))[0] - 400) < 80).all()
