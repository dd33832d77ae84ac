"""What the basics toolkit offers."""

from metaloop.manifest import Job, Part, Plugin

_TASKS = "metaloop_basics.tasks"
_LEARNERS = "metaloop_basics.learners"
_META = "metaloop_basics.meta_optimizers"
_JOBS = "metaloop_basics.jobs"
_DRY = (("steps", 1), ("task_batch", 2), ("eval_tasks", 2))

SPEC = Plugin(
    name="basics",
    summary="generic tasks, learners and meta-optimizers",
    components=(
        Part("basics/linear-regression", "tasks", f"{_TASKS}.regression:LinearRegression", "noisy or clean y = W x"),
        Part("basics/sinusoid", "tasks", f"{_TASKS}.regression:Sinusoid", "MAML's y = A sin(x + phi)"),
        Part("basics/table", "tasks", f"{_TASKS}.table:TableEpisodes", "rows of a bundled table, CSV or Parquet file"),
        Part("basics/digits", "tasks", f"{_TASKS}.digits:FewShotDigits", "few-shot 8x8 digits, bundled"),
        Part(
            "basics/image-folder", "tasks", f"{_TASKS}.folder:ImageFolderEpisodes", "few-shot from folder/class/*.png"
        ),
        Part("basics/torchvision", "tasks", f"{_TASKS}.vision:TorchvisionEpisodes", "few-shot from torchvision's data"),
        Part("basics/maml", "learner", f"{_LEARNERS}.maml:Maml", "gradient steps from a learned start; Meta-SGD"),
        Part("basics/anil", "learner", f"{_LEARNERS}.anil:Anil", "MAML that adapts the head alone"),
        Part("basics/protonet", "learner", f"{_LEARNERS}.protonet:ProtoNet", "nearest class mean in a learned space"),
        Part("basics/ridge", "learner", f"{_LEARNERS}.ridge:Ridge", "ridge or least squares in closed form"),
        Part("basics/gd", "learner", f"{_LEARNERS}.descent:GradientDescent", "gradient descent on a linear model"),
        Part("basics/mlp", "part", "metaloop_basics.models:Mlp", "multi-layer perceptron for learners"),
        Part("basics/conv-net", "part", "metaloop_basics.models:ConvNet", "Conv4-style network for learners"),
        Part("basics/gradient", "meta-optimizer", f"{_META}.gradient:Gradient", "gradient through whole lives"),
        Part(
            "basics/truncated-gradient",
            "meta-optimizer",
            f"{_META}.gradient:TruncatedGradient",
            "gradient through windows of inner steps",
        ),
        Part("basics/reptile", "meta-optimizer", f"{_META}.reptile:Reptile", "towards what learners adapt theta to"),
        Part("basics/es", "meta-optimizer", f"{_META}.evolution:EvolutionStrategy", "OpenAI-ES, antithetic"),
        Part("basics/pes", "meta-optimizer", f"{_META}.evolution:PersistentES", "persistent ES for unrolled lives"),
        Part("basics/random-search", "meta-optimizer", f"{_META}.evolution:RandomSearch", "keep the best of a cloud"),
    ),
    jobs=(
        Job("basics", f"{_JOBS}:sinusoids", "the same as basics/maml", dry=_DRY),
        Job("basics/maml", f"{_JOBS}:sinusoids", "MAML on sinusoids", dry=_DRY),
        Job("basics/digits", f"{_JOBS}:digits", "prototypical networks on digits they have not seen", dry=_DRY),
    ),
)
