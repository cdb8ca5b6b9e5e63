"""Programs by others, each in an environment of its own, in which there is nothing of Wyrm: nothing is imported here."""
