"""Figure 7: the page that raters of the human study see.

The paper shows a prompt, two models' answers side by side, and the choice between them or a tie. Ours is the exported
page itself (`make human-study`), of the first rater whose first two answers differ: it names no model, works without a
network and records the choice. The picture is taken with Chromium; where there is none, the committed one is kept.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from eval.human_study.study import Study
from experiments.figures.figure import Data, Evidence, Figure
from experiments.paper.table4_human_study import ARMS, write_study
from optune.utils.hashing import stable_hash

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = (1280, 800)  # pixels
SHOWS = "optune-page"  # the picture's own note of the page that it shows
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking")


def collect(evidence: Evidence) -> Data:
    """A rater's page, whole, and what is in the study."""
    raw = evidence.raw
    with tempfile.TemporaryDirectory() as folder:
        study = write_study(raw, Path(folder))
        rater = next((name for name in study.raters if _differ(study, name)), study.raters[0])
        page = (Path(folder) / "pages" / f"{rater}.html").read_text("utf-8")
    return {
        "study": study.study_id,
        "pairs": len(study.pairs),
        "raters": len(study.raters),
        "ratings": len(study.items),
        "rater": rater,
        "ratings_on_page": len(study.items_of(rater)),
        "page": page,
    }


def _differ(study: Study, rater: str) -> bool:
    _, first, second = study.texts(study.items_of(rater)[0])
    return first != second


def lines(data: Data) -> list[str]:
    """What the page belongs to."""
    return [
        f"  {data['rater']}'s page of study {data['study']}: {data['ratings_on_page']} of {data['ratings']} ratings "
        f"by {data['raters']} raters on {data['pairs']} pairs"
    ]


def draw(data: Data, path: Path) -> list[str]:
    """A screenshot of the page; nothing is drawn without a browser, or where the picture shows this page already.

    Browsers and fonts differ between machines, so that the same page would give another picture.
    """
    picture = path.with_suffix(".png")
    if shown_by(picture) == page_hash(data["page"]):
        return []
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        kept = "the picture that is there is kept" if picture.exists() else "there is no picture"
        print(f"No Chromium on this machine to take a picture of the page with; {kept}.")
        return []
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        page.write_text(data["page"], "utf-8")
        screenshot(browser, page, picture)
    note_page(picture, data["page"])
    return [str(picture)]


def page_hash(page: str) -> str:
    """Of the page and of the part of it that is taken."""
    return stable_hash(page, SIZE)


def shown_by(picture: Path) -> str | None:
    """The hash of the page that a picture says it shows; None without a picture or without such a note."""
    if not picture.exists():
        return None
    with Image.open(picture) as image:
        return image.info.get(SHOWS)


def note_page(picture: Path, page: str) -> None:
    """Write into the picture which page it shows."""
    note = PngInfo()
    note.add_text(SHOWS, page_hash(page))
    with Image.open(picture) as image:
        image.load()
        image.save(picture, pnginfo=note, optimize=True)


def screenshot(browser: str, page: Path, picture: Path) -> None:
    """Save the first SIZE pixels of a page as `picture`."""
    picture.parent.mkdir(parents=True, exist_ok=True)
    size = f"--window-size={SIZE[0]},{SIZE[1]}"
    profile = f"--user-data-dir={page.parent / 'profile'}"
    command = [browser, *OPTIONS, profile, size, f"--screenshot={picture.resolve()}", page.resolve().as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


FIGURE = Figure("The page of the human study", ARMS, collect, draw, lines, one_seed=True)
