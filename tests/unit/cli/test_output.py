"""What is printed for people fits the terminal and can still be read."""

from hypothesis import given, strategies as st

from headgate.cli.output import table

CELLS = st.one_of(st.none(), st.integers(), st.text(max_size=60))


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=5), st.integers(20, 100))
def test_tables_fit(rows: list[tuple[object, ...]], width: int) -> None:
    """No line is wider than the terminal, and every row is one line."""
    lines = table(("NAME", "STATE", "REASON"), rows, width).split("\n")
    assert len(lines) == len(rows) + 1
    assert all(len(line) <= width for line in lines)


def test_tables_align_and_cut_the_widest_column() -> None:
    """Columns are aligned; where a line is too long its widest cell is cut, and says so; nothing is a dash."""
    rows = [("a", 1, "short"), ("bb", None, "a very long reason that does not fit")]
    assert table(("N", "V", "REASON"), rows, 20) == "N   V  REASON\na   1  short\nbb  -  a very long…"


def test_pipes_get_everything() -> None:
    """Where the output is no terminal, nothing is cut: another program reads it."""
    assert "x" * 500 in table(("A",), [("x" * 500,)])
