# Checkpoints: intermediate training of a recipe, then fine-tuning on a target's training set.
INTERMEDIATE = "checkpoints/{model}/{recipe}/seed-{seed}/intermediate"
FINETUNED = "checkpoints/{model}/{recipe}/seed-{seed}/{training}"
MERGED = "merged/{model}/{recipe}/seed-{seed}/{merged}"


rule intermediate:
    input:
        checked(INTERMEDIATE),
    output:
        manifest(INTERMEDIATE),
    log:
        "logs/intermediate/{model}/{recipe}/seed-{seed}.log",
    threads: cores(INTERMEDIATE)
    resources:
        **resources("intermediate", INTERMEDIATE),
    params:
        spec=spec(INTERMEDIATE),
    shell:
        training("intermediate", INTERMEDIATE)


rule finetune:
    input:
        checked(FINETUNED),
    output:
        manifest(FINETUNED),
    log:
        "logs/finetune/{model}/{recipe}/seed-{seed}/{training}.log",
    threads: cores(FINETUNED)
    resources:
        **resources("finetune", FINETUNED),
    params:
        spec=spec(FINETUNED),
    shell:
        training("finetune", FINETUNED)


# Whole weights from an adapter.
rule merge:
    input:
        manifests(MERGED),
    output:
        manifest(MERGED),
    log:
        "logs/merge/{model}/{recipe}/seed-{seed}/{merged}.log",
    resources:
        **resources("merge", MERGED),
    params:
        spec=spec(MERGED),
    shell:
        stage("merge", MERGED)
