# Predictions and scores by one process for all targets of a model, recipe and seed.
LAYERS = "layers/{model}/{recipe}/seed-{seed}"
EVALUATED = "bundles/evaluate/{model}/{recipe}/seed-{seed}"
SCORED = "bundles/score/{model}/{recipe}/seed-{seed}"


# Which hidden state mines the dev pairs best; only where the study leaves the choice to them.
rule sweep:
    input:
        checked(LAYERS),
    output:
        manifest(LAYERS),
    log:
        "logs/sweep/{model}/{recipe}/seed-{seed}.log",
    resources:
        **resources("sweep", LAYERS),
    params:
        spec=spec(LAYERS),
    shell:
        stage("sweep", LAYERS)


# Predictions of a model, recipe and seed for all targets; each is an artifact of its own.
rule evaluate:
    input:
        bundled(EVALUATED),
    output:
        manifest(EVALUATED),
    log:
        "logs/evaluate/{model}/{recipe}/seed-{seed}.log",
    resources:
        **resources("evaluate", EVALUATED),
    params:
        spec=spec(EVALUATED),
    shell:
        long_stage("evaluate", EVALUATED)


rule score:
    input:
        bundled(SCORED),
    output:
        manifest(SCORED),
    log:
        "logs/score/{model}/{recipe}/seed-{seed}.log",
    resources:
        **resources("score", SCORED),
    params:
        spec=spec(SCORED),
    shell:
        long_stage("score", SCORED)
