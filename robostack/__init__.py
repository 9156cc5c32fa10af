"""robostack: post-train vision-language-action policies with learned rewards."""

__version__ = "0.1.0"
