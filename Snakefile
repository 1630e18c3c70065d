# From raw data to audited tables: registry -> fetch -> prepare -> tokens -> model -> intermediate
# -> finetune -> evaluate per language -> score -> aggregate, analyse -> report.
#
#   snakemake --cores 2                                        the toy study of config.yaml
#   snakemake --cores 2 --configfile studies/slices.yaml       another study
#
# All results of a study lie below results/<study>/, which is also Snakemake's working directory:
# its metadata travel with the results.
import gc

from snakemake.utils import min_version

# Planning makes millions of small objects and frees few: looking for garbage costs a fifth of the time
# of a dry run. A run that does something looks for it again.
gc.disable()

min_version("9.20")

# A study given on the command line takes the place of config.yaml; merged with it, recipes of both
# would be run.
if not workflow.configfiles:

    configfile: "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/analysis.smk"


workdir: RESULTS


# On a cluster: what needs the network, which compute nodes do not have, and what takes no time.
localrules:
    fetch,
    fetch_rest,
    fetch_model,
    fetch_translator,
    tokenizer,
    testset,
    check,
    distances,
    aggregate,
    analyse,
    report,


rule all:
    input:
        everything,


onsuccess:
    print_summary()


onerror:
    SITE.fail()
