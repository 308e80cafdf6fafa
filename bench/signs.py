"""Signs that look like letters in the source, by name."""

TIMES = "\N{MULTIPLICATION SIGN}"
DASH = "\N{EN DASH}"
