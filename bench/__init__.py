"""The benchmark behind `make bench`: Headgate and its peers, measured in turn on one machine. See README.md here."""
