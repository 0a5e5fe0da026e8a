"""The history of the sample repository: a small billing package, and a bug that its newest test finds."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One commit: who, when (ISO 8601), why, and the files that it writes whole."""

    author: str
    email: str
    at: str
    message: str
    files: dict[str, str] = field(default_factory=dict)


_MIRA = {"author": "Mira Okafor", "email": "mira@billing.example"}
_JONAS = {"author": "Jonas Lind", "email": "jonas@billing.example"}

_IGNORE = "__pycache__/\n*.pyc\n"

_README_FIRST = """\
# billing

Invoices in whole cents. Standard library only.
"""

_README = """\
# billing

Invoices in whole cents. Standard library only.

    >>> from billing.invoice import Invoice, Line
    >>> Invoice([Line("Support", hours="1.5", rate="80.00")]).total()
    Decimal('142.80')

## Rounding

Amounts are rounded half up, to the cent, once for each line and once for the tax: half a cent becomes a whole one.
This is what the tax office expects on an invoice.

## Tests

    python3 -m unittest
"""

_INIT = '''\
"""Invoices in whole cents."""

__version__ = "{version}"
'''

_MONEY = '''\
"""Amounts of money: always Decimal, always whole cents."""

from decimal import ROUND_HALF_EVEN, Decimal

CENT = Decimal("0.01")


def cents(amount: Decimal | str | int) -> Decimal:
    """`amount` rounded to the cent."""
    return Decimal(amount).quantize(CENT, rounding=ROUND_HALF_EVEN)
'''

_MONEY_FORMAT = (
    _MONEY
    + '''

def show(amount: Decimal, currency: str = "EUR") -> str:
    """`amount` as it stands on an invoice: `1,250.00 EUR`."""
    return f"{cents(amount):,.2f} {currency}"
'''
)

_INVOICE = '''\
"""An invoice: lines of work, and what they come to."""

from dataclasses import dataclass
from decimal import Decimal

from billing.money import cents


@dataclass(frozen=True)
class Line:
    text: str
    hours: str
    rate: str

    def net(self) -> Decimal:
        return cents(Decimal(self.hours) * Decimal(self.rate))


class Invoice:
    def __init__(self, lines: list[Line]) -> None:
        self.lines = lines

    def net(self) -> Decimal:
        return sum((line.net() for line in self.lines), Decimal("0.00"))
'''

_INVOICE_TAX = '''\
"""An invoice: lines of work, tax, and what they come to."""

from dataclasses import dataclass
from decimal import Decimal

from billing.money import cents

TAX_RATE = Decimal("0.19")


@dataclass(frozen=True)
class Line:
    text: str
    hours: str
    rate: str

    def net(self) -> Decimal:
        return cents(Decimal(self.hours) * Decimal(self.rate))


class Invoice:
    def __init__(self, lines: list[Line], tax_rate: Decimal = TAX_RATE) -> None:
        self.lines = lines
        self.tax_rate = tax_rate

    def net(self) -> Decimal:
        return sum((line.net() for line in self.lines), Decimal("0.00"))

    def tax(self) -> Decimal:
        return cents(self.net() * self.tax_rate)

    def total(self) -> Decimal:
        return self.net() + self.tax()
'''

_TEST_MONEY = """\
import unittest
from decimal import Decimal

from billing.money import cents


class Cents(unittest.TestCase):
    def test_whole_cents_stay_as_they_are(self):
        self.assertEqual(cents("12.34"), Decimal("12.34"))

    def test_less_than_half_a_cent_is_dropped(self):
        self.assertEqual(cents("12.344"), Decimal("12.34"))

    def test_more_than_half_a_cent_is_a_cent(self):
        self.assertEqual(cents("12.346"), Decimal("12.35"))
"""

_TEST_MONEY_FORMAT = (
    _TEST_MONEY.replace("import cents", "import cents, show")
    + """

class Show(unittest.TestCase):
    def test_thousands_are_grouped(self):
        self.assertEqual(show(Decimal("1250")), "1,250.00 EUR")
"""
)

_TEST_MONEY_HALF = _TEST_MONEY_FORMAT.replace(
    """

class Show(""",
    """
    def test_half_a_cent_rounds_up(self):
        self.assertEqual(cents("2.665"), Decimal("2.67"))
        self.assertEqual(cents("2.675"), Decimal("2.68"))


class Show(""",
)

_TEST_INVOICE = """\
import unittest
from decimal import Decimal

from billing.invoice import Invoice, Line


class Totals(unittest.TestCase):
    def test_the_net_is_the_sum_of_the_lines(self):
        invoice = Invoice([Line("Design", "2", "95.00"), Line("Support", "1.5", "80.00")])
        self.assertEqual(invoice.net(), Decimal("310.00"))

    def test_an_empty_invoice_comes_to_nothing(self):
        self.assertEqual(Invoice([]).net(), Decimal("0.00"))
"""

_TEST_INVOICE_TAX = (
    _TEST_INVOICE
    + """
    def test_tax_is_added_once(self):
        invoice = Invoice([Line("Support", "1.5", "80.00")])
        self.assertEqual(invoice.tax(), Decimal("22.80"))
        self.assertEqual(invoice.total(), Decimal("142.80"))
"""
)

HISTORY = [
    Commit(
        **_MIRA,
        at="2025-03-03T09:12:00+01:00",
        message="Amounts of money in whole cents\n\nFloats lose cents on long invoices.",
        files={
            ".gitignore": _IGNORE,
            "README.md": _README_FIRST,
            "billing/__init__.py": _INIT.format(version="0.1.0"),
            "billing/money.py": _MONEY,
            "tests/__init__.py": "",
            "tests/test_money.py": _TEST_MONEY,
        },
    ),
    Commit(
        **_MIRA,
        at="2025-03-05T16:40:00+01:00",
        message="Invoices made of lines",
        files={"billing/invoice.py": _INVOICE, "tests/test_invoice.py": _TEST_INVOICE},
    ),
    Commit(
        **_JONAS,
        at="2025-04-14T11:05:00+02:00",
        message="Add tax to the total\n\nThe rate is a property of the invoice: it differs by country.",
        files={"billing/invoice.py": _INVOICE_TAX, "tests/test_invoice.py": _TEST_INVOICE_TAX},
    ),
    Commit(
        **_JONAS,
        at="2025-04-15T10:31:00+02:00",
        message="Show amounts with grouped thousands and the currency",
        files={"billing/money.py": _MONEY_FORMAT, "tests/test_money.py": _TEST_MONEY_FORMAT},
    ),
    Commit(
        **_MIRA,
        at="2025-05-20T14:22:00+02:00",
        message="Describe rounding and how to run the tests",
        files={"README.md": _README, "billing/__init__.py": _INIT.format(version="0.2.0")},
    ),
    Commit(
        **_JONAS,
        at="2025-06-02T17:58:00+02:00",
        message="Test that half a cent rounds up\n\nA customer's invoice was a cent below ours. The fix is still to come.",
        files={"tests/test_money.py": _TEST_MONEY_HALF},
    ),
]
