"""How the documentation is built: ``make docs``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import equipoise

project = "Equipoise"
author = "the Equipoise contributors"
copyright = author
version = release = equipoise.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "methods",
    "exactness",
    "speed",
]
exclude_patterns = ["_build", "**/*.inc"]
# The browser loads MathJax when a page is read; building needs no network.
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_type_aliases = {"Losses": "Losses", "Prior": "Prior", "Features": "Features"}
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = "Equipoise"
html_static_path = ["_static"]
html_css_files = ["equipoise.css"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1f6f6b", "color-brand-content": "#1f6f6b"},
    "dark_css_variables": {"color-brand-primary": "#6cc5be", "color-brand-content": "#6cc5be"},
}
