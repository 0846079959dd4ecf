"""The error tree: every deliberate failure of the product is one of these.

    BoneAgeError
    ├── InputError             the image or its data cannot be used
    │   ├── UnreadableImage    missing, empty, truncated or undecodable file
    │   ├── UnsupportedImage   readable, but of a kind that is refused (multi-frame, too large, too small)
    │   ├── NotAHand           no single, whole hand in the image
    │   │   ├── SeveralHands   more than one hand, or hands that overlap
    │   │   └── IncompleteHand a hand that is cut off, covered or lacks a part
    │   └── SexRequired        the method needs the sex and it is not known
    ├── StandardError          a scoring standard cannot answer
    │   ├── TableMissing       there is no such standard or table
    │   ├── TableBroken        a table is not the one that was checked, is incomplete or out of order
    │   ├── WrongBones         the bones are not the standard's: unknown, missing, or one twice
    │   ├── UnknownGrade       the standard has no such grade for the bone
    │   └── NotApplicable      a measurement is missing, or the child lies outside the standard's range
    ├── BundleError            the shipped model cannot be trusted or used
    │   ├── ChecksumMismatch
    │   └── Incompatible
    ├── ConfigError            a configuration, manifest or argument is wrong
    ├── RuntimeUnavailable     an optional engine or package is not installed
    └── DeliveryError          a result could not be written or sent

A message says what was expected, what came, and what to do next. It never holds a patient's
name or identifier.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the command line returns to the shell."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    SOME_FAILED = 3


class BoneAgeError(Exception):
    """Base of every deliberate error; `code` is stable and machine-readable."""

    code = "error"


class InputError(BoneAgeError):
    """The image, or the data that came with it, cannot be used."""

    code = "input"


class UnreadableImage(InputError):
    """The file is missing, empty, truncated or no image at all."""

    code = "unreadable_image"


class UnsupportedImage(InputError):
    """The file is an image of a kind that is refused: too large, too small, multi-frame, blank."""

    code = "unsupported_image"


class NotAHand(InputError):
    """The image does not show one whole hand."""

    code = "not_a_hand"


class SeveralHands(NotAHand):
    """The image shows more than one hand."""

    code = "several_hands"


class IncompleteHand(NotAHand):
    """The image shows a hand of which a part is cut off, covered or missing."""

    code = "incomplete_hand"


class SexRequired(InputError):
    """The method needs the patient's sex, and neither the caller nor the file gives it."""

    code = "sex_required"


class StandardError(BoneAgeError):
    """A scoring standard cannot answer."""

    code = "standard"


class TableMissing(StandardError):
    """There is no such standard or table."""

    code = "table_missing"


class TableBroken(StandardError):
    """A standard's table is not the one that was checked, is incomplete or out of order."""

    code = "table_broken"


class WrongBones(StandardError):
    """The bones given are not the standard's: unknown, missing, or one of them twice."""

    code = "wrong_bones"


class UnknownGrade(StandardError):
    """The standard has no such grade for the bone."""

    code = "unknown_grade"


class NotApplicable(StandardError):
    """A method needs a measurement that is not there, or does not reach the child's age."""

    code = "not_applicable"


class BundleError(BoneAgeError):
    """A bundle cannot be read or trusted."""

    code = "bundle"


class ChecksumMismatch(BundleError):
    """A file of the bundle is not the one its manifest names."""

    code = "checksum_mismatch"


class Incompatible(BundleError):
    """The bundle was made for another version of the product."""

    code = "incompatible"


class ConfigError(BoneAgeError):
    """A configuration, a manifest or an argument is wrong."""

    code = "config"


class RuntimeUnavailable(BoneAgeError):
    """An optional engine or package is not installed."""

    code = "runtime_unavailable"


class DeliveryError(BoneAgeError):
    """A result could not be written or sent."""

    code = "delivery"


EXIT_CODES: dict[str, ExitCode] = {
    ConfigError.code: ExitCode.USAGE,
    SexRequired.code: ExitCode.USAGE,
    TableMissing.code: ExitCode.USAGE,
    WrongBones.code: ExitCode.USAGE,
    UnknownGrade.code: ExitCode.USAGE,
}
"""Exit code of an error's code, where it is not `ExitCode.FAILED`."""

HTTP_STATUS: dict[str, int] = {
    InputError.code: 422,
    UnreadableImage.code: 415,
    UnsupportedImage.code: 422,
    NotAHand.code: 422,
    SeveralHands.code: 422,
    IncompleteHand.code: 422,
    SexRequired.code: 400,
    ConfigError.code: 400,
    StandardError.code: 400,
    TableMissing.code: 404,
    TableBroken.code: 500,
    WrongBones.code: 400,
    UnknownGrade.code: 400,
    NotApplicable.code: 422,
    RuntimeUnavailable.code: 503,
}
"""HTTP status of an error's code, where it is not 500."""


def exit_code(error: BoneAgeError) -> ExitCode:
    """Return the shell's exit code for an error."""
    return EXIT_CODES.get(error.code, ExitCode.FAILED)


def http_status(error: BoneAgeError) -> int:
    """Return the HTTP status for an error."""
    return HTTP_STATUS.get(error.code, 500)
