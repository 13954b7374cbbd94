"""The limit theorems: one rule per instruction, from a program's text to its law."""
