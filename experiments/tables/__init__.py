"""The tables of README.md and docs/, made from the rows in results/, so that no figure is typed by hand."""
