"""What this plugin offers."""

from metaloop.manifest import Job, Paper, Part, Plugin

_HERE = "metaloop_notears_topo"

SPEC = Plugin(
    name="notears-topo",
    summary="directed acyclic graphs by swaps in a topological order, proposed by gradients of NOTEARS' objective",
    paper=Paper(
        title="Optimizing NOTEARS Objectives via Topological Swaps",
        authors="Deng, Bello, Aragam, Ravikumar",
        year=2023,
        venue="ICML",
        identifier="arXiv:2305.17277",
        family="causal discovery",
    ),
    components=(
        Part("notears-topo/sem", "tasks", f"{_HERE}.sem:SEM", "data from random graphs: ER, scale-free"),
        Part("notears-topo/table", "tasks", f"{_HERE}.tables:WholeTable", "a bundled table, CSV or Parquet file"),
        Part("notears-topo/topo", "learner", f"{_HERE}.topo:Topo", "the search over orders"),
        Part("notears-topo/priorities", "learner", f"{_HERE}.priorities:Priorities", "an order as theta"),
        Part("notears-topo/notears", "learner", f"{_HERE}.peers:Notears", "NOTEARS of gcastle"),
        Part("notears-topo/dagma", "learner", f"{_HERE}.peers:Dagma", "DAGMA of dagma"),
        Part("notears-topo/notears-mlp", "learner", f"{_HERE}.peers:NotearsMlp", "nonlinear NOTEARS of gcastle"),
        Part("notears-topo/dagma-mlp", "learner", f"{_HERE}.peers:DagmaMlp", "nonlinear DAGMA of dagma"),
        Part("notears-topo/least-squares", "part", f"{_HERE}.model:LeastSquares", "linear nodes"),
        Part("notears-topo/logistic", "part", f"{_HERE}.logistic:Logistic", "binary nodes, L1 penalty"),
        Part("notears-topo/mlp", "part", f"{_HERE}.mlp:Mlp", "a network for each node"),
        Part("notears-topo/recovery", "stage", f"{_HERE}.stages:Recovery", "table and pictures of searches"),
    ),
    jobs=(
        Job(
            "notears-topo",
            f"{_HERE}.jobs:linear",
            "linear graphs: from random orders and from NOTEARS' and DAGMA's graphs; real tables",
            dry=tuple(
                (f"stages.{name}.{path}", value)
                for name in ("er1", "er2", "er4", "sf1", "sf2", "sf4")
                for path, value in (("tasks.seeds", [0]), ("learner.steps", 1))
            ),
        ),
        Job("notears-topo/table", f"{_HERE}.jobs:table", "a table of yours: --set 'tasks.source=my.csv'"),
        Job(
            "notears-topo/nonlinear",
            f"{_HERE}.jobs:nonlinear",
            "a network for each node",
            dry=(
                ("stages.topo.tasks.seeds", [0]),
                ("stages.topo.tasks.rows", 50),
                ("stages.topo.learner.steps", 1),
                ("stages.topo.learner.small", 1),
                ("stages.topo.learner.large", 1),
                ("stages.topo.learner.model.iterations", 1),
            ),
        ),
    ),
    claims=f"{_HERE}.claims:CLAIMS",
)
