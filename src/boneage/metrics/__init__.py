"""How well predicted ages agree with reference ages, with intervals, by subgroup; numpy only."""
