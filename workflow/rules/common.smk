# The study's plan, and how a rule finds its job in it.
from pathlib import Path

from snakemake.exceptions import WorkflowError

from xstilts.cluster.site import Site
from xstilts.errors import InputError
from xstilts.plan import CHECK, TABLES
from xstilts.session import Session

try:
    SESSION = Session.of_config(
        config,
        where=str(workflow.configfiles[-1]),
        root=Path(workflow.basedir),
        main=workflow.is_main_process,
    )
    SITE = Site.of_workflow(workflow, SESSION)
except InputError as error:
    raise WorkflowError(str(error)) from None

PLAN = SESSION.plan
RESULTS = str(SESSION.results)

SESSION.export()


wildcard_constraints:
    **SESSION.constraints,


def manifest(folder):
    """The file that stands for an artifact."""
    return f"{folder}/manifest.json"


def spec(pattern):
    """The one tracked parameter of a job: canonical JSON of all that decides its bytes."""
    return lambda wildcards: PLAN.jobs[pattern.format(**wildcards)].text


def manifests(pattern):
    """Manifests of a job's inputs: identical bytes stop a rerun here."""
    return lambda wildcards: [
        manifest(folder) for folder in PLAN.jobs[pattern.format(**wildcards)].inputs
    ]


def checked(pattern):
    """Manifests of a job's inputs, and of the check of all data, which alone makes nothing again.

    Behind a job that runs, Snakemake looks for no other reason to run, not even behind an
    ancient() input (snakemake#4166): a job that must run for its own sake is not to have one.
    """

    def inputs(wildcards):
        job = PLAN.jobs[pattern.format(**wildcards)]
        check = manifest(CHECK)
        gate = check if PLAN.is_stale(job.out, SESSION.results) else ancient(check)
        return [gate, *(manifest(folder) for folder in job.inputs)]

    return inputs


def everything(wildcards):
    """What `all` asks for: the tables, and files that published artifacts have lost."""
    begin()
    try:
        return [manifest(TABLES), *PLAN.missing_files(SESSION.results)]
    except InputError as error:
        raise WorkflowError(str(error)) from None


def begin():
    """Begin a run; it is not known before the input of `all` that it is none for show."""
    try:
        SITE.begin(workflow)
    except InputError as error:
        raise WorkflowError(str(error)) from None


def resources(name, pattern):
    """What a stage's job asks for: of a cluster its share, elsewhere one of the GPUs."""
    return SITE.resources(
        name, lambda wildcards: PLAN.jobs[pattern.format(**wildcards)]
    )


def cores(pattern):
    """CPU threads of a job."""
    return lambda wildcards: PLAN.jobs[pattern.format(**wildcards)].threads


def stage(name, pattern, options=""):
    """The command of a stage; its lines go to the terminal and to the log."""
    out = pattern.replace("{", "{wildcards.")
    call = f"xstilts stage {name} --out {out} {options} --spec {{params.spec:q}}"
    return f"{call} 2>&1 | tee {{log}} >&2"


def training(name, pattern):
    """The command of a training: it saves its state before its `runtime` is over, if it has any."""
    return stage(name, pattern, "--minutes {resources.runtime}")


def print_summary():
    from xstilts.analysis.aggregate import summary

    tables = SESSION.results / TABLES
    print(summary(tables))
    print(
        f"Tables and figures: {SESSION.study.results / SESSION.study.study / TABLES}/"
    )
    SITE.end()
