# Tokenizers and encoders: from the Hub, or made here.
TOKENIZER = "models/{model}/tokenizer"
PRETRAINED = "models/{scratch_model}/base"
TRANSLATOR = "translators/{translator}"
FETCHED = "models/{hub_model}/base"


rule tokenizer:
    input:
        manifests(TOKENIZER),
    output:
        manifest(TOKENIZER),
    log:
        "logs/tokenizer/{model}.log",
    resources:
        **resources("tokenizer", TOKENIZER),
    params:
        spec=spec(TOKENIZER),
    shell:
        stage("tokenizer", TOKENIZER)


rule fetch_model:
    input:
        manifests(FETCHED),
    output:
        manifest(FETCHED),
    log:
        "logs/fetch_model/{hub_model}.log",
    resources:
        **resources("fetch_model", FETCHED),
    params:
        spec=spec(FETCHED),
    shell:
        stage("fetch_model", FETCHED)


rule fetch_translator:
    input:
        manifests(TRANSLATOR),
    output:
        manifest(TRANSLATOR),
    log:
        "logs/fetch_translator/{translator}.log",
    resources:
        **resources("fetch_translator", TRANSLATOR),
    params:
        spec=spec(TRANSLATOR),
    shell:
        stage("fetch_translator", TRANSLATOR)


rule pretrain:
    input:
        checked(PRETRAINED),
    output:
        manifest(PRETRAINED),
    log:
        "logs/pretrain/{scratch_model}.log",
    threads: cores(PRETRAINED)
    resources:
        **resources("pretrain", PRETRAINED),
    params:
        spec=spec(PRETRAINED),
    shell:
        training("pretrain", PRETRAINED)
