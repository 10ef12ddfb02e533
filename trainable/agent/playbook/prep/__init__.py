"""The steps of Prep: script name, and the sentence said before it runs."""

STEPS: tuple[tuple[str, str], ...] = (
    (
        "split",
        "I split the rows before I learn anything from them.",
    ),
    ("transformers", "I write down the transformers, so that the pipeline can be loaded anywhere."),
    ("decide", "I decide what happens to every column, looking at the train rows only."),
    ("fit", "I fit the pipeline on the train rows and apply it to all three splits."),
    ("audit", "I check the result the way a skeptical colleague would."),
    ("figures", "I draw what the preparation did to the data."),
    ("report", "I write the report."),
)
