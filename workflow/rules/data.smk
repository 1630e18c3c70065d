# Data sets: fetched (the only network), made canonical and checked, translated where a recipe says
# so, turned into sub-words.
RAW = "data/raw/{dataset}/{config}"
PREPARED = "data/prepared/{dataset}/{language}"
TOKENS = "data/tokens/{model}/{dataset}/{language}"
TRANSLATED = "data/translated/{dataset}/{translator}"
TESTSET = "data/testsets/{model}/{target}"


rule fetch:
    output:
        manifest(RAW),
    log:
        "logs/fetch/{dataset}/{config}.log",
    resources:
        **resources("fetch", RAW),
    params:
        spec=spec(RAW),
    shell:
        stage("fetch", RAW)


rule prepare:
    input:
        manifests(PREPARED),
    output:
        manifest(PREPARED),
    log:
        "logs/prepare/{dataset}/{language}.log",
    resources:
        **resources("prepare", PREPARED),
    params:
        spec=spec(PREPARED),
    shell:
        stage("prepare", PREPARED)


rule tokens:
    input:
        manifests(TOKENS),
    output:
        manifest(TOKENS),
    log:
        "logs/tokens/{model}/{dataset}/{language}.log",
    resources:
        **resources("tokens", TOKENS),
    params:
        spec=spec(TOKENS),
    shell:
        stage("tokens", TOKENS)


# Training data in another language; it goes on where it was stopped.
rule translate:
    input:
        manifests(TRANSLATED),
    output:
        manifest(TRANSLATED),
    log:
        "logs/translate/{dataset}/{translator}.log",
    resources:
        **resources("translate", TRANSLATED),
    params:
        spec=spec(TRANSLATED),
    shell:
        training("translate", TRANSLATED)


# The test data of a target in all its languages, as one artifact.
rule testset:
    input:
        manifests(TESTSET),
    output:
        manifest(TESTSET),
    log:
        "logs/testset/{model}/{target}.log",
    resources:
        **resources("testset", TESTSET),
    params:
        spec=spec(TESTSET),
    shell:
        stage("testset", TESTSET)


# Trainings wait for it, so that bad data is known before GPU time is spent.
rule check:
    input:
        manifests(CHECK),
    output:
        manifest(CHECK),
        f"{CHECK}/datasets.csv",
    log:
        "logs/check.log",
    resources:
        **resources("check", CHECK),
    params:
        spec=spec(CHECK),
    shell:
        long_stage("check", CHECK)
