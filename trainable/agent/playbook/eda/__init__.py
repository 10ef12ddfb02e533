"""The steps of the EDA playbook, in order, and what the agent says before each."""

STEPS: tuple[tuple[str, str], ...] = (
    ("profile", "I read the data and give every column a role."),
    ("target", "Next I settle the target and whether this is classification or regression."),
    ("duplicates", "I look for repeated rows, contradicting labels and copied columns."),
    ("associations", "Now I measure how the columns relate to each other."),
    ("signal", "I score each feature alone against the target, and look for leaks."),
    ("structure", "I look for repeated subjects and for a time order that a split must respect."),
    ("alerts", "I weigh what I found and advise what Prep should leave out."),
    ("plan", "I turn the findings into a plan: one row for each decision of Prep."),
    ("figures", "I draw the columns: gaps, distributions, outliers."),
    ("relations", "I draw the relations: signal, associations, strongest pair, splits."),
    ("report", "Last I write the report."),
)
