"""The nouns: frozen values that rooms hand to each other. This room touches nothing and knows no other room."""
