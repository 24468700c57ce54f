"""How results look: text for people, documents for scripts."""
