"""The Train stage of the playbook: which scripts run, in which order."""

STEPS: tuple[tuple[str, str], ...] = (
    ("predict", "I write the file that will turn new rows into predictions."),
    ("baselines", "I set the bar first: what does a model score that has learned nothing?"),
    ("candidates", "Now the real models: linear, two forests, and gradient boosting."),
    ("imbalance", "I check whether rare classes need class weights or synthetic rows."),
    ("tune", "I tune the most promising boosted model, on training rows only."),
    ("ensemble", "I blend the models, compare everything on validation rows, and choose."),
    ("test_score", "The choice is made, so I score it on the test rows: once."),
    ("explain", "Which columns does the model use, and where is it weak?"),
    ("figures", "I draw how good the model is and how it fails."),
    ("explain_figures", "I draw what the model looks at."),
    ("report", "I write the report and the model card."),
)
