"""What every method promises, as functions that anyone can call on a method of their own."""

from benchmark.contract.checks import CHECKS, Case, Verdict, examine
from benchmark.contract.models import FAMILIES, KINDS

__all__ = ["CHECKS", "FAMILIES", "KINDS", "Case", "Verdict", "examine"]
