"""The nouns and pure rules of the mail RFCs. No I/O."""
