"""What sub-grades of the radius are worth on hands that their models had not seen.

python benchmarks/radius.py [BUNDLE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from boneage.inference.bundle import SHIPPED
from boneage.inference.subgrade_parts import TABLES
from boneage.recipes.radius_subgrades.crops import STANDARD, read_bones
from boneage.recipes.radius_subgrades.errors import age_by_radius, age_by_standard
from boneage.recipes.radius_subgrades.results import order_of_ages, read_held_out, within_grades
from boneage.recipes.radius_subgrades.tables import months_table, order_table, within_table


def main() -> None:
    """Print the order of the bone ages, and errors in months."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=SHIPPED, help="of a bundle or a run")
    folder = parser.parse_args().folder
    out_of_fold, grades = (folder / name for name in TABLES)
    held = read_held_out(out_of_fold if out_of_fold.is_file() else folder / "oof.csv")
    bones = read_bones(grades, STANDARD) if grades.is_file() else {}
    print(f"{folder.name}: {len(held.ids)} radii of the grades that are subdivided\n")
    print(order_table(order_of_ages(held)) + "\n")
    print(within_table(within_grades(held)) + "\n")
    print(months_table([*age_by_radius(held), *age_by_standard(held, bones)]))


if __name__ == "__main__":
    main()
