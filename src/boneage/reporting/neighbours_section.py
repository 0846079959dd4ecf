"""The report's part on the training hands alike: a label-free group's bone ages, and the typical one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from boneage.core.types import Assessment, HandGroup, Neighbours, Sex, TypicalAge, interval_names
from boneage.reporting.age_scale import neighbours_chart
from boneage.reporting.markup import table
from boneage.reporting.tabular import years_and_months

WHOSE = {Sex.FEMALE: "of girls' hands", Sex.MALE: "of boys' hands", None: "of hands"}
TOO_FEW = "too few to tell averages of"
ROWS = ("Mean (SD)", "Median", "25% to 75%", "5% to 95%")
UNKNOWN = "\N{EN DASH}"


def group_name(group: HandGroup) -> str:
    """Return what a group is called: `group 5 of 8 of girls' hands, the least mature first`."""
    return f"group {group.number} of {group.count} {WHOSE[group.sex]}, the least mature first"


def group_words(group: HandGroup) -> str:
    """Return a group and its bone ages as people write them, in one line."""
    if group.mean_months is None or group.sd_months is None or not group.percentiles_months:
        return f"{group_name(group)}; its {group.hands} training hands of known bone age are {TOO_FEW}"
    low, *_, high = (years_and_months(age) for age in group.percentiles_months)
    return (
        f"{group_name(group)}; its {group.hands} training hands: mean {years_and_months(group.mean_months)}, "
        f"SD {group.sd_months:.0f} months, 5% to 95% from {low} to {high}"
    )


def typical_words(typical: TypicalAge | None) -> str:
    """Return the typical bone age of the hands nearest in maturity as people write it, in one line."""
    if typical is None:
        return f"the training hands of this sex are {TOO_FEW}"
    return (
        f"the {typical.hands} training hands nearest: about {years_and_months(typical.mean_months)}, "
        f"SD {typical.sd_months:.0f} months"
    )


def neighbours_section(assessment: Assessment) -> Iterator[str]:
    """Return the section; nothing where neighbours were not asked for or none could be told."""
    near = assessment.neighbours
    if near is None:
        return
    yield '<section class="neighbours"><h3>Training hands like this one</h3>'
    if near.group is not None:
        yield f"<p><strong>{escape(_sentence(group_name(near.group)))}</strong></p>"
    yield neighbours_chart(assessment)
    columns = [*_group_column(near.group), *_typical_column(near.typical)]
    if columns:
        yield table(("Bone age", *(head for head, _ in columns)), _rows([cells for _, cells in columns]))
    lines = [*_few_words(near), *_class_words(near.group), _regions_words(near)]
    yield "".join(f"<p>{escape(line)}</p>" for line in lines)
    apart = ", girls and boys apart" if near.group is not None and near.group.sex is not None else ""
    yield (
        '<p class="soft">No label was used to group the hands or to put them in order of maturity: only what '
        f"their images show{apart}. Their bone ages were looked up afterwards. These are averages and counts "
        "over many children. They explain the bone age and do not change it.</p></section>"
    )


def _few_words(near: Neighbours) -> Iterator[str]:
    """Return a sentence for each of the two averages that cannot be told."""
    group = near.group
    if group is not None and not group.percentiles_months:
        yield f"Group {group.number} has {group.hands} training hands of known bone age: {TOO_FEW}."
    if near.typical is None:
        yield f"{_sentence(typical_words(None))}."


def _group_column(group: HandGroup | None) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Return the title and the cells of the group's averages, in the order of `ROWS`."""
    if group is None or group.mean_months is None or group.sd_months is None or not group.percentiles_months:
        return
    p5, p25, p50, p75, p95 = map(years_and_months, group.percentiles_months)
    cells = (_mean(group.mean_months, group.sd_months), p50, f"{p25} to {p75}", f"{p5} to {p95}")
    yield f"Group {group.number}: {group.hands} hands", cells


def _typical_column(typical: TypicalAge | None) -> Iterator[tuple[str, tuple[str, ...]]]:
    if typical is not None:
        cells = (_mean(typical.mean_months, typical.sd_months), UNKNOWN, UNKNOWN, UNKNOWN)
        yield f"Most alike in maturity: {typical.hands} nearest hands", cells


def _rows(columns: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return list(zip(ROWS, *columns, strict=True))


def _class_words(group: HandGroup | None) -> Iterator[str]:
    """Return how many of a group's hands are in each class of bone age that has some."""
    if group is not None and any(group.classes):
        pairs = zip(interval_names(group.edges_months), group.classes, strict=True)
        named = ", ".join(f"{name}: {hands}" for name, hands in pairs if hands)
        yield f"Hands of group {group.number} by bone age: {named}."


def _regions_words(near: Neighbours) -> str:
    every = len(near.regions) + len(near.masked)
    lacking = f"; not read: {', '.join(near.masked)} (see the warnings)" if near.masked else ""
    return f"Told from {len(near.regions)} of {every} key regions of the hand{lacking}."


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:]


def _mean(mean_months: float, sd_months: float) -> str:
    return f"{years_and_months(mean_months)} ({sd_months:.0f} months)"
