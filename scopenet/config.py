"""The config node ``MODEL.SCOPENET``."""

from detectron2.config import CfgNode


def add_scopenet_config(cfg: CfgNode) -> None:
    """Add ScopeNet's keys to ``cfg``, with the values of the paper's 38.0 AP model."""
    cfg.MODEL.SCOPENET = node = CfgNode()
    node.IN_FEATURES = ["p3", "p4", "p5", "p6", "p7"]
    node.NUM_CLASSES = 80

    # Head (figure 2). CONV_DIM is the width of both towers; NORM is "" or "GN" (table 4). With
    # SEPARABLE the towers' convolutions are depthwise and then 1x1, the last ones 1x1: for CPUs.
    node.NUM_CONVS = 4
    node.CONV_DIM = 256
    node.NORM = ""
    node.SEPARABLE = False
    node.PRIOR_PROB = 0.01

    # Bins: how many per direction (1 is direct regression), and log2 of the ratio of neighbouring
    # edges (table 2).
    node.NUM_BINS = 5
    node.BIN_SIZE = 1.0
    # Ends of the levels' ranges of the largest border distance in px, one fewer than levels.
    node.LEVEL_BOUNDARIES = [64, 128, 256, 512]
    # sigma^2 of equation 2, and p_loc in the score (equation 3, inference only).
    node.UNCERTAINTY = True
    node.GUIDED_SCORE = True
    # A border is that of the "best_bin" (the paper), or the "expectation" over all bins.
    node.DECODING = "best_bin"
    # Learn how far off borders may be: border_scores are then the probability to be off by at most
    # a tenth of the box's side, and border_stds are in px.
    node.BORDER_ERRORS = False

    # Positives: distance to the box centre, in strides.
    node.CENTER_RADIUS_CLS = 1.5
    node.CENTER_RADIUS_LOC = 2.0

    # Losses (equation 4). LOC_LOSS_TYPE is "iou" (-ln IoU), "linear_iou" or "giou".
    node.FOCAL_LOSS_ALPHA = 0.25
    node.FOCAL_LOSS_GAMMA = 2.0
    node.BIN_LOSS_WEIGHT = 0.5
    node.LOC_LOSS_WEIGHT = 1.0
    node.LOC_LOSS_TYPE = "iou"

    # Inference. TEST.DETECTIONS_PER_IMAGE is Detectron2's.
    node.SCORE_THRESH_TEST = 0.05
    node.TOPK_CANDIDATES_TEST = 1000
    node.NMS_THRESH_TEST = 0.5

    # Of build_timm_fpn_backbone: the name of a model of timm, and whether its batch normalizations
    # are trained. MODEL.WEIGHTS timm://NAME.TAG are its pretrained ones (docs/backbones.md).
    cfg.MODEL.TIMM = CfgNode({"NAME": "", "FREEZE_NORMS": True})

    # What is not trained, by patterns of parameter names, e.g. ["backbone.bottom_up.*"].
    cfg.MODEL.FREEZE = []

    # Precision under SOLVER.AMP.ENABLED: "float16" (with loss scaling) or "bfloat16". A CPU takes
    # bfloat16 where it has it and float32 elsewhere.
    cfg.SOLVER.AMP.PRECISION = "float16"

    # In so many parts, one after the other, the images of an iteration go through the model; the
    # gradient is that of all together.
    cfg.SOLVER.ACCUMULATION = 1

    # An exponential moving average of the weights, which is then what is evaluated and saved as the
    # model. It looks back over a ninth of the iterations so far, at most over 1 / (1 - DECAY).
    cfg.SOLVER.EMA = CfgNode({"ENABLED": False, "DECAY": 0.999})

    # How many iterations in a row may be skipped because their loss or gradient is not finite.
    cfg.SOLVER.MAX_SKIPPED_ITERATIONS = 10
    # If not 0: where SOLVER.MAX_ITER is 0 it becomes so many times the training images, and warm-up
    # and periods become shorter where the training is short (engine/schedule.py).
    cfg.SOLVER.EPOCHS = 0
    # After so many evaluations without a better AP training stops; 0 for never.
    cfg.TEST.EARLY_STOPPING = 0
    # Who records a training beside TensorBoard: "wandb", "mlflow" (engine/trackers.py).
    cfg.TRACKERS = []
    # Data sets of one's own in COCO format, for DATASETS.TRAIN and TEST, which set NUM_CLASSES:
    # [{name: cells_train, json: cells/train.json, images: cells/train}, ...]
    cfg.DATASETS.CUSTOM = []
    # Augmentation in training (data/augmentation.py): brightness, contrast and saturation change by
    # up to this share; an image is (least, largest) times its usual size, and cut to it; () if not.
    cfg.INPUT.COLOR_JITTER = 0.0
    cfg.INPUT.LARGE_SCALE_JITTER = ()
    # So many different image files may be unreadable in a process before training stops; others
    # take their places.
    cfg.DATALOADER.MAX_UNREADABLE_IMAGES = 10
