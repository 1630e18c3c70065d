# From scores to tables, the answers to the questions, and the report. What is marked with report()
# stands in Snakemake's own report (`snakemake --report FILE`) as well.
from xstilts.analysis.questions import QUESTIONS

DISTANCES = "distances/{model}"
TRANSFERABILITY = "bundles/transferability/{model}/seed-{seed}"


report: "../report/workflow.rst"


# How far each language is from the source language, as linguists and the model's tokenizer see it.
rule distances:
    input:
        manifests(DISTANCES),
    output:
        manifest(DISTANCES),
    log:
        "logs/distances/{model}.log",
    resources:
        **resources("distances", DISTANCES),
    params:
        spec=spec(DISTANCES),
    shell:
        long_stage("distances", DISTANCES)


rule aggregate:
    input:
        checked(TABLES),
    output:
        manifest(TABLES),
        shown(f"{TABLES}/overview.csv", "overview", "Tables"),
        shown(f"{TABLES}/figures/gains.svg", "gains", "Figures"),
    log:
        "logs/aggregate.log",
    resources:
        **resources("aggregate", TABLES),
    params:
        spec=spec(TABLES),
    shell:
        long_stage("aggregate", TABLES)


rule analyse:
    input:
        checked(ANALYSIS),
    output:
        manifest(ANALYSIS),
        [
            shown(f"{ANALYSIS}/{name}/{name}.svg", name, "Questions")
            for name in QUESTIONS
        ],
    log:
        "logs/analyse.log",
    resources:
        **resources("analyse", ANALYSIS),
    params:
        spec=spec(ANALYSIS),
    shell:
        long_stage("analyse", ANALYSIS)


rule report:
    input:
        checked(REPORT),
    output:
        manifest(REPORT),
        shown(f"{REPORT}/index.html", "report", "Report"),
    log:
        "logs/report.log",
    resources:
        **resources("report", REPORT),
    params:
        spec=spec(REPORT),
    shell:
        long_stage("report", REPORT)


# What can be said of all recipes of a model and seed before any fine-tuning; each is an artifact.
rule transferability:
    input:
        bundled(TRANSFERABILITY),
    output:
        manifest(TRANSFERABILITY),
    log:
        "logs/transferability/{model}/seed-{seed}.log",
    resources:
        **resources("transferability", TRANSFERABILITY),
    params:
        spec=spec(TRANSFERABILITY),
    shell:
        long_stage("transferability", TRANSFERABILITY)
