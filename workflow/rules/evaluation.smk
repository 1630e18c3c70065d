# Predictions of every language by one process per checkpoint and target, then scores and tables.
SCORES = "scores/{model}/{recipe}/seed-{seed}/{target}"
PREDICTIONS = "predictions/{model}/{recipe}/seed-{seed}"


# One rule a target: its outputs are the files of its languages.
for target, languages in SESSION.target_languages.items():

    rule:
        name:
            f"evaluate_{target}"
        input:
            manifests(f"{PREDICTIONS}/{target}"),
            ancient(heavy(f"{PREDICTIONS}/{target}")),
        output:
            manifest(f"{PREDICTIONS}/{target}"),
            [f"{PREDICTIONS}/{target}/{language}.jsonl" for language in languages],
        log:
            f"logs/evaluate/{{model}}/{{recipe}}/seed-{{seed}}/{target}.log",
        params:
            spec=spec(f"{PREDICTIONS}/{target}"),
        shell:
            stage("evaluate", f"{PREDICTIONS}/{target}")


rule score:
    input:
        manifests(SCORES),
    output:
        manifest(SCORES),
        f"{SCORES}/scores.json",
    log:
        "logs/score/{model}/{recipe}/seed-{seed}/{target}.log",
    params:
        spec=spec(SCORES),
    shell:
        stage("score", SCORES)


rule aggregate:
    input:
        manifests(TABLES),
    output:
        manifest(TABLES),
        f"{TABLES}/scores.csv",
        f"{TABLES}/overview.csv",
    log:
        "logs/aggregate.log",
    params:
        spec=spec(TABLES),
    shell:
        stage("aggregate", TABLES)
