# Predictions of every language by one process per checkpoint and target, then scores and tables.
LAYERS = "layers/{model}/{recipe}/seed-{seed}"
PREDICTIONS = "predictions/{model}/{recipe}/seed-{seed}/{target}"
SCORES = "scores/{model}/{recipe}/seed-{seed}/{target}"


# Which hidden state mines the dev pairs best; only where the study leaves the choice to them.
rule sweep:
    input:
        checked(LAYERS),
    output:
        manifest(LAYERS),
        f"{LAYERS}/layers.json",
    log:
        "logs/sweep/{model}/{recipe}/seed-{seed}.log",
    resources:
        **resources("sweep", LAYERS),
    params:
        spec=spec(LAYERS),
    shell:
        stage("sweep", LAYERS)


rule evaluate:
    input:
        checked(PREDICTIONS),
    output:
        manifest(PREDICTIONS),
    log:
        "logs/evaluate/{model}/{recipe}/seed-{seed}/{target}.log",
    resources:
        **resources("evaluate", PREDICTIONS),
    params:
        spec=spec(PREDICTIONS),
    shell:
        stage("evaluate", PREDICTIONS)


# A prediction file that was lost. Declaring all of them as outputs above would double the files that
# Snakemake looks at in a study of the paper's size.
rule restore_predictions:
    input:
        manifest(CHECK),
        manifest(PREDICTIONS),
    output:
        f"{PREDICTIONS}/{{language}}.jsonl",
    log:
        "logs/restore/{model}/{recipe}/seed-{seed}/{target}/{language}.log",
    resources:
        **resources("evaluate", PREDICTIONS),
    params:
        spec=spec(PREDICTIONS),
    shell:
        stage("evaluate", PREDICTIONS)


rule score:
    input:
        checked(SCORES),
    output:
        manifest(SCORES),
        f"{SCORES}/scores.json",
    log:
        "logs/score/{model}/{recipe}/seed-{seed}/{target}.log",
    resources:
        **resources("score", SCORES),
    params:
        spec=spec(SCORES),
    shell:
        stage("score", SCORES)


rule aggregate:
    input:
        checked(TABLES),
    output:
        manifest(TABLES),
        f"{TABLES}/scores.csv",
        f"{TABLES}/overview.csv",
    log:
        "logs/aggregate.log",
    resources:
        **resources("aggregate", TABLES),
    params:
        spec=spec(TABLES),
    shell:
        stage("aggregate", TABLES)
