"""What `boneage assess --report FILE` writes: the ending of the file's name says in which form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from boneage.core.errors import ConfigError, DeliveryError
from boneage.reporting.forms import OF_A_STUDY, TITLES, Form, Source, read_header, render

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from boneage.core.types import Assessment, Radiograph
    from boneage.inference.assess import Assessor
    from boneage.reporting.summary_page import Book
    from boneage.reporting.tabular import Failure


ENDINGS = {
    ".html": Form.HTML,
    ".htm": Form.HTML,
    ".pdf": Form.PDF,
    ".dcm": Form.REPORT,
    ".fhir.json": Form.FHIR,
}
"""Ending of the file's name -> the report's form."""

OF_ONE_IMAGE = (Form.REPORT, Form.FHIR)
"""Forms that belong to one patient and one study."""


def check_report(report: Path | None, images: int = 1) -> None:
    """Refuse a report that cannot be written, before any image is read.

    Raises:
        ConfigError: the ending names no form, the folder does not exist, or the form has room for one image.
        RuntimeUnavailable: the form's package is not installed.
    """
    if report is None:
        return
    form = form_of(report)
    if not report.parent.is_dir():
        raise ConfigError(
            f"the folder of the report, {report.parent}, does not exist: create it, or name another"
        )
    if form in OF_ONE_IMAGE and images != 1:
        raise ConfigError(
            f"--report {report.name}: a {TITLES[form]} is about one image, and {images} were given: "
            "give one image, or name a .html or .pdf file"
        )
    if form is Form.REPORT:
        from boneage.reporting.dicom_content import highdicom

        highdicom()


def form_of(report: Path) -> Form:
    """Return the form that the ending of a report's name asks for.

    Raises:
        ConfigError: it asks for none.
    """
    for ending, form in ENDINGS.items():
        if report.name.lower().endswith(ending):
            return form
    raise ConfigError(
        f"--report must name a .html, .pdf, .dcm or .fhir.json file, not {report.name!r}: change the ending"
    )


@dataclass(slots=True)
class ReportParts:
    """The parts of one report, made image by image, so that no image need stay in memory."""

    form: Form
    articles: list[str] = field(default_factory=list)
    book: Book | None = None
    files: list[bytes] = field(default_factory=list)

    def add(self, radiograph: Radiograph, assessment: Assessment, assessor: Assessor) -> None:
        """Make an image's part."""
        if self.form is Form.HTML:
            from boneage.reporting import document

            saliency = assessor.saliency(radiograph, assessment)
            self.articles.append(document.article(assessment, radiograph.pixels, saliency))
        elif self.form is Form.PDF:
            from boneage.reporting.summary_page import Book, summary_figure

            self.book = self.book or Book()
            self.book.add(summary_figure(assessment, radiograph.pixels, name=radiograph.path))
        else:
            header = _header(radiograph.path) if self.form in OF_A_STUDY else None
            source = Source(radiograph, header, name=radiograph.path)
            self.files.append(render(self.form, assessment, source))

    def content(self, failures: Sequence[Failure]) -> bytes | str | None:
        """Return the whole report; None where there is nothing to report."""
        if self.form is Form.HTML:
            from boneage.reporting import document

            return document.page(self.articles, failures)
        if self.book is not None:
            return self.book.content()
        return self.files[0] if self.files else None


def _header(path: str) -> Dataset:
    """Return a DICOM file's header.

    Raises:
        DeliveryError: the file cannot be read a second time.
    """
    try:
        return read_header(Path(path).read_bytes())
    except OSError as error:
        raise DeliveryError(
            f"{path} cannot be read again for its report ({error.strerror}): leave it in place"
        ) from error
