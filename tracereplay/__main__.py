"""`python -m tracereplay` is `tracereplay`."""

from tracereplay.cli import main

main()
