"""What a notebook shows of a comparison."""

from html import escape

from adai.lab.results.comparison import Comparison
from adai.lab.results.summary import summarise, verdict
from adai.report.tables import cells


def html(comparison: Comparison) -> str:
    """The table and the verdict as HTML that stands in a page of others."""
    summary = summarise(comparison)
    table = cells(summary)
    head = "".join(f"<th>{escape(heading)}</th>" for heading in table.headings)
    body = "".join(
        f"<tr><th>{escape(first)}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in others)}</tr>"
        for first, *others in table.rows
    )
    failures = "".join(f"<p>{escape(str(failure))}</p>" for failure in comparison.failures)
    return (
        f"<table><caption>{escape(table.title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"<p>{escape(verdict(summary))}</p>{failures}"
    )
