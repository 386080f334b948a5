"""How the site is built: `make docs`. Warnings are errors, and nothing is fetched."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

# Notebooks run in processes of their own, with no settings but these.
os.environ["PYTHONPATH"] = str(HERE.parent)
os.environ["IPYTHONDIR"] = str(HERE / "_build" / "ipython")
PROFILE = HERE / "_build" / "ipython" / "profile_default"
PROFILE.mkdir(parents=True, exist_ok=True)
(PROFILE / "ipython_kernel_config.py").write_text(
    "c.IPKernelApp.log_level = 40\nc.HistoryManager.enabled = False\n", encoding="utf-8"
)

from dbrecon.version import VERSION  # noqa: E402 - the checkout's, wherever Sphinx was started

project = "dbrecon"
author = "the dbrecon developers"
copyright = "the dbrecon developers; MIT licence"
version = release = VERSION

extensions = ["sphinx.ext.autodoc", "myst_nb", "sphinx_design", "sphinx_copybutton", "from_code", "mathml", "state_diagrams"]
exclude_patterns = ["_build", "_ext", "**/.ipynb_checkpoints"]
suppress_warnings = ["misc.highlighting_failure"]  # a console's output need not be of the language of its block
html_title = "dbrecon"

# Markdown. `sh` blocks and indented ones are shown as they are.
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
highlight_language = "none"
smartquotes_action = "q"  # the dashes of options stay as they are typed

# Notebooks run while the site is built; one that fails stops the build.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_execution_show_tb = True

# Functions, from their docstrings.
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_show_search_summary = False  # they are fetched, which a browser refuses of files
html_theme_options = {
    "logo": {"text": "dbrecon"},
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
    "show_toc_level": 2,
}
html_sidebars: dict[str, list[str]] = {"index": [], "start": []}
html_math_renderer = "mathml"
