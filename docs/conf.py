"""How Sphinx builds the documentation; warnings are errors."""

from importlib.metadata import version as installed_version

project = "gatewayproto"
author = "The gatewayproto developers"
copyright = "2026, The gatewayproto developers"
release = installed_version("gatewayproto")
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.apidoc",
]
# apidoc also writes a table of contents; docs/api.md is ours.
exclude_patterns = ["_api/modules.rst", "_build"]
html_theme = "furo"
html_title = f"gatewayproto {release}"

# In docstrings, single backquotes are code, as they are in Markdown.
default_role = "code"

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist", "tasklist"]
# So that a page can link to a section of another one by its heading.
myst_heading_anchors = 4

# A page for each module of the core, written anew at every build.
apidoc_modules = [
    {
        "path": "../gatewayproto",
        "destination": "_api",
        "separate_modules": True,
        "include_private": False,
        # A name that a package re-exports is documented where it is defined, once.
        "automodule_options": {"members", "show-inheritance", "ignore-module-all"},
    },
]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
