import pytest

from jaxrg.metrics.protocols import PROTOCOLS


@pytest.mark.parametrize(
  ("protocol", "text", "expected"),
  [
    ("raw", "No effusion.  Clear.", "No effusion.  Clear."),
    ("raw", "", ""),
    ("priorrg", "No effusion.  Clear.", "No effusion . Clear ."),
    ("priorrg", "3.5 cm", "3 .5 cm"),
    ("priorrg", "", " . . ."),
    ("priorrg", "  ", " . . ."),
    ("lower", "No effusion.  Clear.", "no effusion . clear ."),
    ("lower", "", " . . ."),
  ],
)
def test_texts(protocol, text, expected):
  assert PROTOCOLS[protocol].apply([text]) == [expected]


def test_names_are_keys():
  assert all(name == protocol.name for name, protocol in PROTOCOLS.items())
