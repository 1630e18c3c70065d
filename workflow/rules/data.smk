# Data sets: fetched (the only network), made canonical and checked, translated where a recipe says
# so, turned into sub-words.
#
# What trainings read has a job for each language, so that another language begins none again; the
# rest of a data set has one job for all its languages, and is no fewer artifacts.
RAW = "data/raw/{dataset}/{config}"
RAW_REST = "bundles/fetch/{dataset}"
PREPARED = "data/prepared/{dataset}/{language}"
PREPARED_REST = "bundles/prepare/{dataset}"
TOKENS = "data/tokens/{model}/{dataset}/{language}"
TOKENS_REST = "bundles/tokens/{model}/{dataset}"
PROMPTS = "data/prompts/{model}/{dataset}/{language}"
ASKED = "bundles/prompts/{model}/{dataset}"
TRANSLATED = "data/translated/{dataset}/{translator}"
TESTSETS = "bundles/testset/{model}"


rule fetch:
    input:
        alone(RAW),
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


rule fetch_rest:
    input:
        bundled(RAW_REST, manifests),
    output:
        manifest(RAW_REST),
    log:
        "logs/fetch/{dataset}.log",
    resources:
        **resources("fetch", RAW_REST),
    params:
        spec=spec(RAW_REST),
    shell:
        long_stage("fetch", RAW_REST)


rule prepare:
    input:
        alone(PREPARED),
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


rule prepare_rest:
    input:
        bundled(PREPARED_REST, manifests),
    output:
        manifest(PREPARED_REST),
    log:
        "logs/prepare/{dataset}.log",
    resources:
        **resources("prepare", PREPARED_REST),
    params:
        spec=spec(PREPARED_REST),
    shell:
        long_stage("prepare", PREPARED_REST)


rule tokens:
    input:
        alone(TOKENS),
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


rule tokens_rest:
    input:
        bundled(TOKENS_REST, manifests),
    output:
        manifest(TOKENS_REST),
    log:
        "logs/tokens/{model}/{dataset}.log",
    resources:
        **resources("tokens", TOKENS_REST),
    params:
        spec=spec(TOKENS_REST),
    shell:
        long_stage("tokens", TOKENS_REST)


# What a decoder is trained on, and what it is asked in all languages.
rule prompts:
    input:
        manifests(PROMPTS),
    output:
        manifest(PROMPTS),
    log:
        "logs/prompts/{model}/{dataset}/{language}.log",
    resources:
        **resources("prompts", PROMPTS),
    params:
        spec=spec(PROMPTS),
    shell:
        long_stage("prompts", PROMPTS)


rule prompts_rest:
    input:
        bundled(ASKED, manifests),
    output:
        manifest(ASKED),
    log:
        "logs/prompts/{model}/{dataset}.log",
    resources:
        **resources("prompts", ASKED),
    params:
        spec=spec(ASKED),
    shell:
        long_stage("prompts", ASKED)


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


# The test data of each target in all its languages, as one artifact.
rule testset:
    input:
        bundled(TESTSETS, manifests),
    output:
        manifest(TESTSETS),
    log:
        "logs/testset/{model}.log",
    resources:
        **resources("testset", TESTSETS),
    params:
        spec=spec(TESTSETS),
    shell:
        long_stage("testset", TESTSETS)


# Trainings wait for it, so that bad data is known before GPU time is spent.
rule check:
    input:
        manifests(CHECK),
    output:
        manifest(CHECK),
    log:
        "logs/check.log",
    resources:
        **resources("check", CHECK),
    params:
        spec=spec(CHECK),
    shell:
        long_stage("check", CHECK)
