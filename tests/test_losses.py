import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrg import losses

contrastive, next_token = jax.jit(losses.contrastive), jax.jit(losses.next_token)


def pairs(rows, seed=0):
  image, report = jax.random.normal(jax.random.key(seed), (2, rows, 5))
  return image, report


def test_unit_rows_and_the_zero_row():
  x = jnp.array([[3.0, 4.0], [0.0, 0.0]])
  np.testing.assert_allclose(losses.unit(x), [[0.6, 0.8], [0, 0]], rtol=1e-6)
  assert jnp.isfinite(jax.grad(lambda x: losses.unit(x).sum())(x)).all()


def test_contrastive_by_hand():
  """Rows 0 and 1 are one study; logits chosen through a basis."""
  image = jnp.eye(3)
  report = jnp.array([[1.0, 0, 0], [0.6, 0.8, 0], [0, 0, 2.0]])
  study = jnp.array([[7], [7], [3]])
  logits = 2.0 * np.array([[1, 0.6, 0], [0, 0.8, 0], [0, 0, 1]])
  target = np.array([[0.5, 0.5, 0], [0.5, 0.5, 0], [0, 0, 1]])
  entropy = lambda x: -(target * (x - np.log(np.exp(x).sum(1, keepdims=True)))).sum(1)
  expected = (entropy(logits).mean() + entropy(logits.T).mean()) / 2
  loss = contrastive(image, report, jnp.float32(2.0), study)
  assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_identical_pairs_and_a_sharp_temperature_leave_nothing():
  image, _ = pairs(6)
  study = jnp.arange(6)[:, None]
  assert float(contrastive(image, image, jnp.float32(100.0), study)) < 1e-4
  one = contrastive(image[:1], image[1:2], jnp.float32(9.0), study[:1])
  assert float(one) == 0.0


def test_no_temperature_leaves_the_logarithm_of_the_batch():
  image, report = pairs(8)
  loss = contrastive(image, report, jnp.float32(0.0), jnp.arange(8)[:, None])
  assert float(loss) == pytest.approx(np.log(8), rel=1e-6)


def test_studies_have_no_order_and_no_length_and_sides_may_be_swapped():
  image, report = pairs(6)
  study = jnp.array([0, 0, 1, 2, 3, 3])[:, None]
  scale = jnp.float32(5.0)
  loss = float(contrastive(image, report, scale, study))
  order = jnp.array([4, 2, 0, 5, 1, 3])
  shuffled = contrastive(image[order], report[order], scale, study[order])
  longer = contrastive(image * 7, report / 3, scale, study)
  swapped = contrastive(report, image, scale, study)
  assert [float(x) for x in (shuffled, longer, swapped)] == pytest.approx(
    [loss] * 3, rel=1e-5
  )


def test_rows_that_are_not_valid_count_nowhere():
  image, report = pairs(6)
  study = jnp.array([0, 0, 1, 0, 2, 1])[:, None]
  valid = jnp.array([True, True, True, False, True, False])
  scale = jnp.float32(4.0)
  kept = jnp.flatnonzero(valid)

  def padded(image, report):
    return contrastive(image, report, scale, study, valid)

  def shortened(image, report):
    return contrastive(image, report, scale, study[kept])

  value, gradients = jax.jit(jax.value_and_grad(padded, (0, 1)))(image, report)
  expected, shorter = jax.jit(jax.value_and_grad(shortened, (0, 1)))(
    image[kept], report[kept]
  )
  assert float(value) == pytest.approx(float(expected), rel=1e-6)
  for gradient, short in zip(gradients, shorter):
    np.testing.assert_allclose(gradient[kept], short, rtol=1e-5, atol=1e-7)
    assert (gradient[~valid] == 0).all()


def test_a_batch_without_a_valid_row_has_no_loss():
  image, report = pairs(3)
  none = jnp.zeros(3, bool)
  loss = contrastive(image, report, jnp.float32(4.0), jnp.arange(3)[:, None], none)
  assert float(loss) == 0.0


def test_info_nce_by_hand():
  """One row is nearest to a negative, two to their positives and a negative alike."""
  query = jnp.array([[1.0, 0], [0, 1], [0.6, 0.8]])
  positive = jnp.array([[0.8, 0.6], [1, 0], [0.8, 0.6]])
  queue = jnp.array([[0.0, 0.8], [1, 0.6]])  # Columns (0, 1) and (.8, .6).
  logits = np.array([[0.8, 0, 0.8], [0, 1, 0.6], [0.96, 0.8, 0.96]])
  rows = np.log(np.exp(logits / 0.5).sum(axis=1)) - logits[:, 0] / 0.5
  loss, accuracy = jax.jit(losses.info_nce)(query, positive, queue, 0.5)
  assert float(loss) == pytest.approx(rows.mean(), rel=1e-6)
  assert float(accuracy) == 0.0  # Two ties are none.
  loss, accuracy = jax.jit(losses.info_nce)(query, positive, queue[:, :1], 0.5)
  rows = np.log(np.exp(logits[:, :2] / 0.5).sum(axis=1)) - logits[:, 0] / 0.5
  assert float(loss) == pytest.approx(rows.mean(), rel=1e-6)
  assert float(accuracy) == pytest.approx(2 / 3)
  weights = jnp.array([True, True, False])
  loss, accuracy = losses.info_nce(query, positive, queue[:, :1], 0.5, weights)
  assert float(loss) == pytest.approx(rows[:2].mean(), rel=1e-6)
  assert float(accuracy) == 0.5


def test_info_nce_is_in_float32():
  """Of unit rows in bfloat16 too: a temperature of .07 magnifies what is lost."""
  query, positive = (losses.unit(x).astype(jnp.bfloat16) for x in pairs(6))
  queue = losses.unit(pairs(16, seed=1)[0]).T.astype(jnp.bfloat16)
  wide = [x.astype(jnp.float32) for x in (query, positive, queue)]
  loss, _ = jax.jit(losses.info_nce)(query, positive, queue, 0.07)
  expected, _ = jax.jit(losses.info_nce)(*wide, 0.07)
  assert loss.dtype == jnp.float32
  assert float(loss) == pytest.approx(float(expected), rel=1e-6)


def test_next_token_by_hand():
  logits = jnp.log(jnp.array([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.2, 0.6, 0.2]]]))
  labels, weights = jnp.array([[0, 2, 1]]), jnp.array([[True, True, False]])
  loss = next_token(logits, labels, weights)
  assert float(loss) == pytest.approx(-(np.log(0.5) + np.log(0.8)) / 2, rel=1e-6)


def test_labels_that_do_not_count_have_no_gradient():
  logits = jax.random.normal(jax.random.key(0), (2, 4, 5))
  labels = jnp.zeros((2, 4), jnp.int32)
  weights = jnp.array([[1, 1, 0, 0], [1, 0, 0, 0]], bool)
  gradient = jax.jit(jax.grad(losses.next_token))(logits, labels, weights)
  np.testing.assert_array_equal(jnp.abs(gradient).max(-1) > 0, weights)
  assert float(next_token(logits, labels, weights & False)) == 0.0


@pytest.mark.parametrize("rows", [12, 8, 7])
def test_a_large_batch_goes_by_parts(monkeypatch, rows):
  """Loss and gradients are those of all logits at once, which are never there."""
  image, report = pairs(rows)
  study = (jnp.arange(rows) // 2)[:, None]
  valid = jnp.arange(rows) != 3
  both = jax.value_and_grad(
    lambda image, report: losses.contrastive(
      image, report, jnp.float32(4.0), study, valid
    ),
    argnums=(0, 1),
  )
  expected = jax.jit(both)(image, report)
  monkeypatch.setattr(losses, "CHUNK", 4)
  cut = jax.jit(lambda *sides: both(*sides))
  for x, y in zip(jax.tree.leaves(cut(image, report)), jax.tree.leaves(expected)):
    np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)
  if rows != 7:  # A prime number is cut into single rows.
    text = cut.lower(image, report).as_text()
    assert f"tensor<4x{rows}xf32>" in text
    assert f"tensor<{rows}x{rows}xf32>" not in text
