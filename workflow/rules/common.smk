# The study's plan, and how a rule finds its job in it.
import gc
import inspect
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

from xstilts.cluster.environment import shell_prefix
from xstilts.cluster.site import Site
from xstilts.errors import InputError
from xstilts.plan import ANALYSIS, CHECK, REPORT, TABLES
from xstilts.published import Published
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

# Snakemake's own report reads them from the results folder.
workflow.configfiles[:] = [Path(name).absolute() for name in workflow.configfiles]

PLAN = SESSION.plan
PUBLISHED = Published(PLAN, SESSION.results)
RESULTS = str(SESSION.results)

SESSION.export()

# The stages may have an environment of their own.
shell.prefix(shell_prefix())


wildcard_constraints:
    **SESSION.constraints,


def manifest(folder):
    """The file that stands for an artifact."""
    return f"{folder}/manifest.json"


def of_job(function):
    """A function of a job's wildcards, whose parameters Snakemake need not look up at each call.

    It does so before each of ten thousand calls, and that takes longer than they do.
    """
    function.__signature__ = inspect.signature(function)
    return function


def job_of(pattern, wildcards):
    """The planned job, or the bundle of jobs, that makes what a rule makes."""
    out = pattern.format(**wildcards)
    return PLAN.bundles.get(out) or PLAN.jobs[out]


def spec(pattern):
    """The one tracked parameter of a job: canonical JSON of all that decides its bytes."""
    return of_job(lambda wildcards: job_of(pattern, wildcards).text)


def manifests(pattern):
    """Manifests of a job's inputs: identical bytes stop a rerun here."""

    @of_job
    def inputs(wildcards):
        begin()
        out = pattern.format(**wildcards)
        return [_input(folder, out) for folder in PLAN.inputs(out)]

    return inputs


def alone(pattern):
    """The same for what a bundle may have made before a training read it: of such an artifact
    Snakemake does not know how it was made, and it is told whether it is stale."""
    return _forced(pattern, PUBLISHED.is_outdated, manifests(pattern))


def checked(pattern):
    """Manifests of a job's inputs, and of the check of all data, which alone makes nothing again.

    Behind a job that runs, Snakemake looks for no other reason to run, not even behind an
    ancient() input (snakemake#4166): a job that must run for its own sake is not to have one.
    """

    @of_job
    def inputs(wildcards):
        begin()
        out = pattern.format(**wildcards)
        stale = PUBLISHED.is_stale(out)
        check = manifest(CHECK)
        return [
            check if stale else ancient(check),
            *(_input(folder, out) for folder in PLAN.inputs(out)),
        ]

    return inputs


def bundled(pattern, inputs_of=checked):
    """The same for a bundle. Its members are no outputs of the rule: if one is lost, it is told."""
    return _forced(pattern, PUBLISHED.must_mend, inputs_of(pattern))


def _forced(pattern, must_run, inputs_of):
    """Inputs of a job, which Snakemake is told to run where it would not see that it must."""

    @of_job
    def inputs(wildcards):
        begin()
        out = pattern.format(**wildcards)
        if must_run(out):
            workflow.dag.forcefiles.add(manifest(out))
        return inputs_of(wildcards)

    return inputs


def _input(folder, out):
    """An input's manifest; behind files that are only put back, nothing is made again."""
    put_back = folder in PLAN.bundles and PUBLISHED.only_lost(folder)
    if put_back and not PUBLISHED.is_stale(out):
        return ancient(manifest(folder))
    return manifest(folder)


def everything(wildcards):
    """What `all` asks for: the report, made from the tables."""
    begin()
    SITE.whole = True
    return manifest(REPORT)


@cache
def begin():
    """Begin a run, at the first input that is asked for: before, nobody knows that it is none for
    show, and later Snakemake has locked the folder. What has lost files is told to run.
    """
    if not workflow.is_main_process:
        return
    if not workflow.dryrun:
        gc.enable()
    try:
        SITE.begin(workflow)
        workflow.dag.forcefiles.update(map(manifest, PUBLISHED.lost()))
        SITE.mend(PUBLISHED)
    except InputError as error:
        raise WorkflowError(str(error)) from None


def resources(name, pattern):
    """What a stage's job asks for: of a cluster its share, elsewhere one of the GPUs."""
    return SITE.resources(name, lambda wildcards: job_of(pattern, wildcards))


def cores(pattern):
    """CPU threads of a job."""
    return of_job(lambda wildcards: job_of(pattern, wildcards).threads)


def stage(name, pattern, options=""):
    """The command of a stage; its lines go to the terminal and to the log."""
    out = pattern.replace("{", "{wildcards.")
    call = f"xstilts stage {name} --out {out} {options} --spec {{params.spec:q}}"
    return f"{call} 2>&1 | tee {{log}} >&2"


def long_stage(name, pattern):
    """The same where the spec may be longer than an argument can be (128 KiB on Linux)."""
    out = pattern.replace("{", "{wildcards.")
    call = f"xstilts stage {name} --out {out} --spec - <<< {{params.spec:q}}"
    return f"{call} 2>&1 | tee {{log}} >&2"


def training(name, pattern):
    """The command of a training: it saves its state before its `runtime` is over, if it has any."""
    return stage(name, pattern, "--minutes {resources.runtime}")


def shown(path, caption, category):
    """A file of an artifact that Snakemake's report shows."""
    return report(path, caption=f"../report/{caption}.rst", category=category)


def print_summary():
    """The tables, where `all` was asked for: other files say nothing of what lies there."""
    from xstilts.analysis.aggregate import summary

    if SITE.whole:
        print(summary(SESSION.results / TABLES))
        place = SESSION.study.results / SESSION.study.study
        print(f"Tables and figures: {place / TABLES}/")
        print(f"Report: {place / REPORT / 'index.html'}")
    SITE.end()
