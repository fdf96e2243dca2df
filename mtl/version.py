"""The version of this library."""

VERSION = "0.3.0"
